"""One failure stays one failure. [engine core and worker]

- ``failures``: an error of one request ends that request alone
- ``lifetime``: engine core and worker end with the process that started them
"""
