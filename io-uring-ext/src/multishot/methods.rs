//! The methods that the types around an [`Engine`](super::Engine) have in common.

/// What is the same for the users of an engine, in a field of this name.
macro_rules! common_methods {
    ([$($generics:tt)*] $shot:ty, $field:tt, $counters:ty) => {
        impl<$($generics)*> $shot {
            /// Why the operation ended, while it is not armed.
            pub fn end_reason(&self) -> Option<$crate::multishot::EndReason> {
                self.$field.ended()
            }

            /// Whether the kernel has the operation armed.
            pub fn is_armed(&self) -> bool {
                self.$field.is_armed()
            }

            /// Ends the operation. What had arrived before is still handed out.
            ///
            /// # Errors
            ///
            /// As [`Ring::submit`](crate::Ring::submit).
            pub fn cancel(&mut self) -> $crate::Result<()> {
                self.$field.cancel()
            }

            /// Lets an operation that was cancelled, or has ended for another reason, be armed again
            /// with the next call.
            pub fn rearm(&mut self) {
                self.$field.rearm();
            }
        }

        impl<$($generics)*> std::fmt::Debug for $shot {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let counters: $counters = self.counters();
                f.debug_struct(stringify!($shot))
                    .field("armed", &self.is_armed())
                    .field("ended", &self.end_reason())
                    .field("counters", &counters)
                    .finish_non_exhaustive()
            }
        }
    };
}

/// How results are taken, where a result is one item.
macro_rules! item_methods {
    ([$($generics:tt)*] $shot:ty, $item:ty) => {
        impl<$($generics)*> $shot {
            /// The next result, without sleeping.
            ///
            /// # Errors
            ///
            /// The kernel's, which also ends the operation until the next call, or the ring's.
            pub fn try_next(&mut self) -> $crate::Result<Option<$item>> {
                self.0.next()
            }

            /// Sleeps until there is a result. `None` when the time is over, and also when the
            /// operation has ended and is not armed again: see [`end_reason`](Self::end_reason).
            ///
            /// # Errors
            ///
            /// As [`try_next`](Self::try_next).
            pub fn wait(
                &mut self,
                timeout: Option<std::time::Duration>,
            ) -> $crate::Result<Option<$item>> {
                self.0.wait(timeout)
            }

            /// The next result, waiting for it as a task. `None` when the operation has ended and is
            /// not armed again. Dropping the future loses nothing.
            ///
            /// # Errors
            ///
            /// As [`try_next`](Self::try_next); [`Error::Closed`](crate::Error::Closed) when the ring
            /// was closed and had to leak the operation.
            pub async fn next(&mut self) -> $crate::Result<Option<$item>> {
                std::future::poll_fn(|context| self.0.poll_next(context)).await
            }
        }

        impl<$($generics)*> futures_core::Stream for $shot {
            type Item = $crate::Result<$item>;

            fn poll_next(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                self.get_mut().0.poll_next(context).map($crate::Result::transpose)
            }
        }
    };
}

pub(crate) use {common_methods, item_methods};
