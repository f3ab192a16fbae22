//! What the kernel's interface has, by name and number (`include/uapi/linux/io_uring.h`), and since when
//! (`io_uring_enter(2)`, `io_uring_register(2)`, `io_uring_setup(2)`).

use std::fmt;

macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident($prefix:literal): $($item:ident = $number:literal, $major:literal $minor:literal;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u8);

        impl $name {
            $(
                #[doc = concat!("`", $prefix, stringify!($item), "`, Linux ", $major, ".", $minor, ".")]
                pub const $item: Self = Self($number);
            )+

            /// All that have a name here.
            pub const ALL: &[Self] = &[$(Self::$item),+];

            /// One that has no name here.
            pub const fn new(code: u8) -> Self {
                Self(code)
            }

            /// Its number.
            pub const fn code(self) -> u8 {
                self.0
            }

            /// Its name in the kernel's header.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => concat!($prefix, stringify!($item)),)+
                    _ => concat!($prefix, "?"),
                }
            }

            /// The first kernel that has it.
            pub(super) const fn since(self) -> (u32, u32) {
                match self.0 {
                    $($number => ($major, $minor),)+
                    _ => (u32::MAX, 0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} ({})", self.name(), self.0)
            }
        }
    };
}

numbers! {
    /// What an entry asks for (`IORING_OP_*`).
    Opcode("IORING_OP_"):
    NOP = 0, 5 1;
    READV = 1, 5 1;
    WRITEV = 2, 5 1;
    FSYNC = 3, 5 1;
    READ_FIXED = 4, 5 1;
    WRITE_FIXED = 5, 5 1;
    POLL_ADD = 6, 5 1;
    POLL_REMOVE = 7, 5 1;
    SYNC_FILE_RANGE = 8, 5 2;
    SENDMSG = 9, 5 3;
    RECVMSG = 10, 5 3;
    TIMEOUT = 11, 5 4;
    TIMEOUT_REMOVE = 12, 5 5;
    ACCEPT = 13, 5 5;
    ASYNC_CANCEL = 14, 5 5;
    LINK_TIMEOUT = 15, 5 5;
    CONNECT = 16, 5 5;
    FALLOCATE = 17, 5 6;
    OPENAT = 18, 5 6;
    CLOSE = 19, 5 6;
    FILES_UPDATE = 20, 5 6;
    STATX = 21, 5 6;
    READ = 22, 5 6;
    WRITE = 23, 5 6;
    FADVISE = 24, 5 6;
    MADVISE = 25, 5 6;
    SEND = 26, 5 6;
    RECV = 27, 5 6;
    OPENAT2 = 28, 5 6;
    EPOLL_CTL = 29, 5 6;
    SPLICE = 30, 5 7;
    PROVIDE_BUFFERS = 31, 5 7;
    REMOVE_BUFFERS = 32, 5 7;
    TEE = 33, 5 8;
    SHUTDOWN = 34, 5 11;
    RENAMEAT = 35, 5 11;
    UNLINKAT = 36, 5 11;
    MKDIRAT = 37, 5 15;
    SYMLINKAT = 38, 5 15;
    LINKAT = 39, 5 15;
    MSG_RING = 40, 5 18;
    FSETXATTR = 41, 5 19;
    SETXATTR = 42, 5 19;
    FGETXATTR = 43, 5 19;
    GETXATTR = 44, 5 19;
    SOCKET = 45, 5 19;
    URING_CMD = 46, 5 19;
    SEND_ZC = 47, 6 0;
    SENDMSG_ZC = 48, 6 1;
    READ_MULTISHOT = 49, 6 7;
    WAITID = 50, 6 7;
    FUTEX_WAIT = 51, 6 7;
    FUTEX_WAKE = 52, 6 7;
    FUTEX_WAITV = 53, 6 7;
    FIXED_FD_INSTALL = 54, 6 8;
    FTRUNCATE = 55, 6 9;
    BIND = 56, 6 11;
    LISTEN = 57, 6 11;
    RECV_ZC = 58, 6 15;
    EPOLL_WAIT = 59, 6 15;
    READV_FIXED = 60, 6 15;
    WRITEV_FIXED = 61, 6 15;
    PIPE = 62, 6 16;
}

numbers! {
    /// What `io_uring_register(2)` is asked for (`IORING_REGISTER_*`).
    RegisterCall("IORING_"):
    REGISTER_BUFFERS = 0, 5 1;
    UNREGISTER_BUFFERS = 1, 5 1;
    REGISTER_FILES = 2, 5 1;
    UNREGISTER_FILES = 3, 5 1;
    REGISTER_EVENTFD = 4, 5 2;
    UNREGISTER_EVENTFD = 5, 5 2;
    REGISTER_FILES_UPDATE = 6, 5 5;
    REGISTER_EVENTFD_ASYNC = 7, 5 6;
    REGISTER_PROBE = 8, 5 6;
    REGISTER_PERSONALITY = 9, 5 6;
    UNREGISTER_PERSONALITY = 10, 5 6;
    REGISTER_RESTRICTIONS = 11, 5 10;
    REGISTER_ENABLE_RINGS = 12, 5 10;
    REGISTER_FILES2 = 13, 5 13;
    REGISTER_FILES_UPDATE2 = 14, 5 13;
    REGISTER_BUFFERS2 = 15, 5 13;
    REGISTER_BUFFERS_UPDATE = 16, 5 13;
    REGISTER_IOWQ_AFF = 17, 5 14;
    UNREGISTER_IOWQ_AFF = 18, 5 14;
    REGISTER_IOWQ_MAX_WORKERS = 19, 5 15;
    REGISTER_RING_FDS = 20, 5 18;
    UNREGISTER_RING_FDS = 21, 5 18;
    REGISTER_PBUF_RING = 22, 5 19;
    UNREGISTER_PBUF_RING = 23, 5 19;
    REGISTER_SYNC_CANCEL = 24, 6 0;
    REGISTER_FILE_ALLOC_RANGE = 25, 6 0;
    REGISTER_PBUF_STATUS = 26, 6 8;
    REGISTER_NAPI = 27, 6 9;
    UNREGISTER_NAPI = 28, 6 9;
    REGISTER_CLOCK = 29, 6 12;
    REGISTER_CLONE_BUFFERS = 30, 6 12;
    REGISTER_SEND_MSG_RING = 31, 6 13;
    REGISTER_ZCRX_IFQ = 32, 6 15;
    REGISTER_RESIZE_RINGS = 33, 6 13;
    REGISTER_MEM_REGION = 34, 6 13;
    REGISTER_QUERY = 35, 6 18;
}

/// `IORING_FEAT_*`, by their bits.
pub(super) const FEATURES: &[(&str, (u32, u32))] = &[
    ("IORING_FEAT_SINGLE_MMAP", (5, 4)),
    ("IORING_FEAT_NODROP", (5, 5)),
    ("IORING_FEAT_SUBMIT_STABLE", (5, 5)),
    ("IORING_FEAT_RW_CUR_POS", (5, 6)),
    ("IORING_FEAT_CUR_PERSONALITY", (5, 6)),
    ("IORING_FEAT_FAST_POLL", (5, 7)),
    ("IORING_FEAT_POLL_32BITS", (5, 9)),
    ("IORING_FEAT_SQPOLL_NONFIXED", (5, 11)),
    ("IORING_FEAT_EXT_ARG", (5, 11)),
    ("IORING_FEAT_NATIVE_WORKERS", (5, 12)),
    ("IORING_FEAT_RSRC_TAGS", (5, 13)),
    ("IORING_FEAT_CQE_SKIP", (5, 17)),
    ("IORING_FEAT_LINKED_FILE", (5, 17)),
    ("IORING_FEAT_REG_REG_RING", (6, 3)),
    ("IORING_FEAT_RECVSEND_BUNDLE", (6, 10)),
    ("IORING_FEAT_MIN_TIMEOUT", (6, 12)),
    ("IORING_FEAT_RW_ATTR", (6, 14)),
    ("IORING_FEAT_NO_IOWAIT", (6, 15)),
];

/// `IORING_SETUP_*`, by their bits.
pub(super) const SETUPS: &[(&str, (u32, u32))] = &[
    ("IORING_SETUP_IOPOLL", (5, 1)),
    ("IORING_SETUP_SQPOLL", (5, 1)),
    ("IORING_SETUP_SQ_AFF", (5, 1)),
    ("IORING_SETUP_CQSIZE", (5, 5)),
    ("IORING_SETUP_CLAMP", (5, 6)),
    ("IORING_SETUP_ATTACH_WQ", (5, 6)),
    ("IORING_SETUP_R_DISABLED", (5, 10)),
    ("IORING_SETUP_SUBMIT_ALL", (5, 18)),
    ("IORING_SETUP_COOP_TASKRUN", (5, 19)),
    ("IORING_SETUP_TASKRUN_FLAG", (5, 19)),
    ("IORING_SETUP_SQE128", (5, 19)),
    ("IORING_SETUP_CQE32", (5, 19)),
    ("IORING_SETUP_SINGLE_ISSUER", (6, 0)),
    ("IORING_SETUP_DEFER_TASKRUN", (6, 1)),
    ("IORING_SETUP_NO_MMAP", (6, 5)),
    ("IORING_SETUP_REGISTERED_FD_ONLY", (6, 5)),
    ("IORING_SETUP_NO_SQARRAY", (6, 6)),
    ("IORING_SETUP_HYBRID_IOPOLL", (6, 13)),
    ("IORING_SETUP_CQE_MIXED", (6, 18)),
];
