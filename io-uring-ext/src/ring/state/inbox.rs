//! Messages from other rings.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::{Deferred, State};
use crate::error::{Error, Result};
use crate::fixed::{FixedFd, KernelSlots};
use crate::message::{Mail, Places};
use crate::ring::Cqe;
use crate::ring::key::{Key, Kind, MAX_OPERATIONS};

/// What has arrived and was not taken.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// Tells its mail from that of an earlier inbox.
    id: u32,
    mail: VecDeque<Mail>,
    places: Arc<Places>,
    watcher: Option<Waker>,
}

impl State {
    /// Opens the ring's inbox and returns its number.
    pub(crate) fn open_inbox(&mut self, places: &Arc<Places>) -> Result<u32> {
        if self.closed {
            return Err(Error::Closed);
        }
        if self.mailbox.is_some() {
            return Err(Error::config("the second inbox of a ring", 2, "a ring has one at a time"));
        }
        self.inboxes = (self.inboxes + 1) % MAX_OPERATIONS;
        // A message that is on its way has a place, so this never grows.
        let mail = VecDeque::with_capacity(places.capacity());
        let (id, places) = (self.inboxes, Arc::clone(places));
        self.mailbox = Some(Mailbox { id, mail, places, watcher: None });
        Ok(id)
    }

    /// Whether files can arrive in these slots.
    pub(crate) fn check_arriving_files(&mut self, slots: &KernelSlots) -> Result<()> {
        if !slots.belongs_to(self.id) {
            return Err(Error::ForeignRing);
        }
        if slots.is_empty() {
            return Err(Error::config(
                "slots for arriving files",
                0,
                "make the table with slots that the kernel may choose",
            ));
        }
        Ok(())
    }

    pub(crate) fn close_inbox(&mut self, id: u32) {
        if let Some(mailbox) = self.mailbox.take_if(|mailbox| mailbox.id == id) {
            self.counters.stray_messages += mailbox.mail.len() as u64;
            // Files that nobody took: their slots go back to the table.
            drop(mailbox.mail);
            if let Some(waker) = mailbox.watcher {
                self.outbox.push(Deferred::Release(waker));
            }
        }
    }

    /// Nothing will come any more.
    pub(super) fn seal_inbox(&mut self) {
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.places.close();
            if let Some(waker) = mailbox.watcher.take() {
                self.outbox.push(Deferred::Wake(waker));
            }
        }
    }

    /// A message has arrived.
    pub(super) fn mail_came(&mut self, kind: Kind, key: Key, cqe: Cqe) {
        let mail = if kind == Kind::Message {
            Mail::Value(u64::from(key.generation) << 32 | u64::from(cqe.result as u32))
        } else {
            // Held before anything else: a handle that is dropped closes the file.
            let Some(fd) = self.hold_arrived(cqe.result) else {
                self.counters.stray_messages += 1;
                return;
            };
            Mail::File { fd, tag: key.generation }
        };
        match &mut self.mailbox {
            Some(mailbox) if mailbox.id == key.index => {
                mailbox.mail.push_back(mail);
                if let Some(waker) = mailbox.watcher.take() {
                    self.outbox.push(Deferred::Wake(waker));
                }
            }
            _ => self.counters.stray_messages += 1,
        }
    }

    fn hold_arrived(&mut self, slot: i32) -> Option<FixedFd> {
        self.hold_file(u32::try_from(slot).ok()?)
    }

    pub(crate) fn next_mail(&mut self, id: u32) -> Option<Mail> {
        let mailbox = self.mailbox.as_mut().filter(|mailbox| mailbox.id == id)?;
        let mail = mailbox.mail.pop_front()?;
        mailbox.places.release();
        Some(mail)
    }

    /// Has this task woken, and no other, when a message comes.
    pub(crate) fn watch_inbox(&mut self, waker: Waker) {
        let before = match &mut self.mailbox {
            Some(mailbox) => mailbox.watcher.replace(waker),
            None => Some(waker),
        };
        if let Some(before) = before {
            self.outbox.push(Deferred::Release(before));
        }
    }
}
