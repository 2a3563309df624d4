"""Clusters of two hosts on one machine: namespaces, raylets, servers."""
