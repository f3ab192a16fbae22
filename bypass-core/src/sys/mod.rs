//! The raw system calls that the backends share.
