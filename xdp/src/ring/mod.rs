//! The four rings that a socket shares with the kernel.
