//! Packet memory, registered with the kernel.
