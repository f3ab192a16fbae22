//! UDP datagrams through an ordinary socket.
