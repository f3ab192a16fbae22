//! [`Counts`]: what was asked, what was answered, and what was not, by cause.

use std::ops::AddAssign;

use super::answer::Rcode;
use super::query::{Reply, Silence};

/// Declares the counters once: the fields, their sum, and their names.
macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What happened to the messages that came. Each is in `queries` once, and in one of the codes or
        /// in one of the causes of silence.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Counts {
            $($(#[doc = $doc])+ pub(crate) $name: u64,)+
        }

        impl Counts {
            /// Every counter with its name.
            pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counts! {
    /// Messages that came.
    queries,
    /// Answered with NOERROR.
    noerror,
    /// Answered with FORMERR: the message was malformed.
    formerr,
    /// Answered with NXDOMAIN.
    nxdomain,
    /// Answered with NOTIMP: another opcode, or a meta-type.
    notimp,
    /// Answered with REFUSED: another zone or class, or a zone transfer.
    refused,
    /// Answered with BADVERS: another version of EDNS.
    badvers,
    /// Not answered: shorter than a header.
    silent_short,
    /// Not answered: itself a response.
    silent_response,
    /// Not answered: no room for the reply.
    silent_no_room,
    /// Answers, among the above, that were truncated.
    truncated,
    /// Answers, among the above, that led to other servers.
    referrals,
    /// Answers, among the above, that said that there is nothing.
    negative,
    /// Queries with an OPT record.
    edns,
}

impl Counts {
    /// Counts a message by what became of it.
    #[inline]
    pub(crate) fn count(&mut self, outcome: &Result<Reply<'_>, Silence>) {
        self.queries += 1;
        match outcome {
            Ok(reply) => {
                *match reply.rcode {
                    Rcode::NoError => &mut self.noerror,
                    Rcode::FormErr => &mut self.formerr,
                    Rcode::NxDomain => &mut self.nxdomain,
                    Rcode::NotImp => &mut self.notimp,
                    Rcode::Refused => &mut self.refused,
                    Rcode::BadVers => &mut self.badvers,
                } += 1;
                self.truncated += u64::from(reply.truncated);
                self.referrals += u64::from(reply.is_referral());
                self.negative += u64::from(reply.is_negative());
                self.edns += u64::from(reply.edns);
            }
            Err(Silence::Short) => self.silent_short += 1,
            Err(Silence::Response) => self.silent_response += 1,
            Err(Silence::NoRoom) => self.silent_no_room += 1,
        }
    }

    /// Messages that were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.noerror + self.formerr + self.nxdomain + self.notimp + self.refused + self.badvers
    }
}
