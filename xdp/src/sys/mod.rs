//! System calls of AF_XDP sockets.
