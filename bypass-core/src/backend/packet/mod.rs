//! Layer-2 frames through an `AF_PACKET` socket.
