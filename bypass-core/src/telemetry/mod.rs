//! What a worker did: counters, drops by cause, latency, CPU time, context switches.
