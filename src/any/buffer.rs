//! The macro that makes one buffer type out of several.

/// Declares an enum of buffers, each under its `cfg`, that is a [`Buffer`](crate::Buffer) itself.
macro_rules! any_buffer {
    (
        $(#[$attribute:meta])*
        $name:ident { $($(#[$cfg:meta])* $variant:ident($type:ty),)+ }
        $($also:item)*
    ) => {
        $(#[$attribute])*
        #[derive(Debug)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "a variant is named like its backend")]
        pub enum $name {
            $($(#[$cfg])* $variant($type),)+
        }

        /// Calls the same method of whichever buffer it is.
        macro_rules! each {
            ($any:expr, $buffer:ident => $call:expr) => {
                match $any { $($(#[$cfg])* $name::$variant($buffer) => $call,)+ }
            };
        }

        impl $crate::Buffer for $name {
            fn data(&self) -> &[u8] {
                each!(self, buffer => buffer.data())
            }

            fn data_mut(&mut self) -> &mut [u8] {
                each!(self, buffer => buffer.data_mut())
            }

            fn headroom(&self) -> usize {
                each!(self, buffer => buffer.headroom())
            }

            fn tailroom(&self) -> usize {
                each!(self, buffer => buffer.tailroom())
            }

            fn prepend(&mut self, n: usize) -> Result<&mut [u8], $crate::OutOfRoom> {
                each!(self, buffer => buffer.prepend(n))
            }

            fn append(&mut self, n: usize) -> Result<&mut [u8], $crate::OutOfRoom> {
                each!(self, buffer => buffer.append(n))
            }

            fn trim_front(&mut self, n: usize) -> Result<(), $crate::OutOfRoom> {
                each!(self, buffer => buffer.trim_front(n))
            }

            fn set_len(&mut self, n: usize) -> Result<(), $crate::OutOfRoom> {
                each!(self, buffer => buffer.set_len(n))
            }

            /// Allocates when there are several; frames of one segment cost nothing.
            fn segments(&self) -> impl Iterator<Item = &[u8]> {
                let rest: Option<Box<dyn Iterator<Item = &[u8]>>> = each!(self, buffer => {
                    let several = buffer.total_len() > buffer.data().len();
                    several.then(|| Box::new(buffer.segments().skip(1)) as Box<_>)
                });
                std::iter::once(self.data()).chain(rest.into_iter().flatten())
            }

            fn total_len(&self) -> usize {
                each!(self, buffer => buffer.total_len())
            }
        }

        $(
            $(#[$cfg])*
            impl From<$type> for $name {
                fn from(buffer: $type) -> Self {
                    Self::$variant(buffer)
                }
            }

            $(#[$cfg])*
            impl TryFrom<$name> for $type {
                type Error = $name;

                fn try_from(any: $name) -> Result<Self, $name> {
                    match any {
                        $name::$variant(buffer) => Ok(buffer),
                        #[allow(unreachable_patterns, reason = "with one backend there is no other")]
                        other => Err(other),
                    }
                }
            }
        )+

        $($also)*
    };
}

pub(super) use any_buffer;
