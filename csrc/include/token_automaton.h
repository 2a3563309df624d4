// An automaton over tokens, and where a request's text stands in it: structured/token_dfa.py and
// structured/frontier.py define what is done here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "elem.h"

namespace vd {

// Field for field the ctypes structure of cpu_constrained.py.
struct TokenAutomaton {
  const int64_t* cls;         // (E), of each edge; C for the edge of every token
  const int64_t* dst;         // (E)
  const int64_t* first_edge;  // (N + 1), where each state's edges begin
  const int64_t* distance;    // (N), fewest tokens to the end
  const int64_t* sample;      // (C), a token of each class, -1 for none
  const int64_t* size;        // (C), tokens of each class
  const int64_t* border;      // (C + 1), where each class begins in `order`
  const int32_t* class_of;    // (V)
  const int32_t* order;       // (V), tokens by class: see TokenClasses
  int64_t N, C, E, V;

  int64_t done() const { return N - 1; }
  int64_t stop() const { return C - 1; }

  int64_t class_of_token(int64_t token) const {
    return token >= 0 && token < V ? class_of[token] : 0;
  }

  // The state behind a token; -1 where it may not come.
  int64_t step(int64_t state, int64_t token) const {
    if (state == done()) return state;
    if (token < 0 || token >= V) return -1;
    const int64_t c = class_of[token];
    for (int64_t e = first_edge[state]; e < first_edge[state + 1]; ++e) {
      if (cls[e] == c) return dst[e];
    }
    return -1;
  }

  // The only token that may come next; -1 where there are several.
  int64_t only(int64_t state) const {
    const int64_t e = first_edge[state];
    return first_edge[state + 1] - e == 1 && size[cls[e]] == 1 ? sample[cls[e]] : -1;
  }

  // The next token of the shortest way to the end.
  int64_t nearest(int64_t state) const {
    int64_t best = first_edge[state];
    for (int64_t e = best + 1; e < first_edge[state + 1]; ++e) {
      if (distance[dst[e]] < distance[dst[best]]) best = e;
    }
    return sample[cls[best]];
  }
};

// Leaves the tokens that may follow a state, in place.
template <class Elem>
void keep_allowed(Elem* row, int64_t columns, const TokenAutomaton& a, int64_t state) {
  std::vector<uint8_t> is_open(a.C, 0);
  for (int64_t e = a.first_edge[state]; e < a.first_edge[state + 1]; ++e) is_open[a.cls[e]] = 1;
  for (int64_t v = 0; v < columns; ++v) {
    if (!is_open[a.class_of_token(v)]) row[v] = minus_infinity<Elem>();
  }
}

// A request's place in its automaton, by slot; no automaton where it has none. Field for field the
// columns of cpu_constrained.py.
struct Follow {
  const TokenAutomaton* automaton;
  int64_t state;     // at the frontier
  int64_t start;     // in front of the canvas; -1 before it was first followed
  int64_t frontier;  // canvas positions that the automaton has accepted
  int64_t num_left;  // tokens that may still be emitted, from the canvas's first position
  int64_t is_ending;  // all the rest is the shortest way to the end
  int64_t block_length;

  int64_t at_start() const { return start < 0 ? state : start; }
  bool is_done() const { return state == automaton->done(); }

  void emitted(int64_t num_tokens) {
    frontier = std::max<int64_t>(frontier - num_tokens, 0);
    num_left -= num_tokens;
    start = -1;
  }

  // Checks and fills the canvas's first `end` positions. False where only the Python side knows
  // what to do; it then starts where this has stopped.
  bool follow(int64_t* tokens, bool* masked, int64_t end, int64_t mask_id) {
    end = std::min(end, num_left);
    if (start < 0) start = state;
    if (!advance(tokens, masked, end, mask_id)) return false;
    if (frontier < end || is_done() || is_ending) return true;
    if (automaton->distance[state] <= num_left - end) return true;
    if (automaton->distance[start] > num_left) return false;
    state = start;
    frontier = 0;
    is_ending = 1;
    std::fill_n(tokens, std::max<int64_t>(end, 0), mask_id);
    std::fill_n(masked, std::max<int64_t>(end, 0), true);
    return advance(tokens, masked, end, mask_id);
  }

 private:
  bool advance(int64_t* tokens, bool* masked, int64_t end, int64_t mask_id) {
    while (frontier < end && !is_done()) {
      const int64_t at = frontier;
      int64_t next = masked[at] ? -1 : automaton->step(state, tokens[at]);
      if (next < 0) {
        if (automaton->first_edge[state] == automaton->first_edge[state + 1]) return false;
        const int64_t token = is_ending ? automaton->nearest(state) : automaton->only(state);
        if (token < 0) {
          tokens[at] = mask_id;
          masked[at] = true;
          return true;
        }
        tokens[at] = token;
        masked[at] = false;
        next = automaton->step(state, token);
      }
      state = next;
      ++frontier;
    }
    return true;
  }
};

}  // namespace vd
