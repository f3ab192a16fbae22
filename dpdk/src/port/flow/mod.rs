//! Flow rules: which packets a device treats how, before anybody receives them (`rte_flow`).
//!
//! ```no_run
//! use bypass_dpdk::flow::{Action, Item, Rule};
//! # fn example(port: &bypass_dpdk::Port<bypass_dpdk::Started>) -> bypass_core::Result<()> {
//! // DNS to queue 1.
//! let rule = Rule::new()
//!     .when(Item::Ethernet { destination: None, source: None, ether_type: None })
//!     .when(Item::Ipv4 { source: None, destination: None, protocol: None })
//!     .when(Item::Udp { source: None, destination: Some(53) })
//!     .then(Action::Queue(1));
//! port.validate_flow(&rule)?;
//! let installed = port.create_flow(&rule)?;
//! // It holds until it is dropped.
//! drop(installed);
//! # Ok(())
//! # }
//! ```

mod pattern;

use std::ffi::CStr;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bypass_core::{Error, Result};
use bypass_dpdk_sys as sys;

use self::pattern::Encoded;
pub use self::pattern::Item;
use super::device::Running;
use super::{Port, Started};
use crate::error::DpdkError;

/// What to do with packets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Give them to this receiving queue.
    Queue(u16),
    /// Spread them over these receiving queues.
    Rss(Vec<u16>),
    /// Mark them with this number: [`Mbuf::mark`](crate::Mbuf::mark).
    Mark(u32),
    /// Count them: [`FlowRule::count`].
    Count,
    /// Drop them.
    Drop,
}

/// Which packets, and what to do with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The headers of the packets, from the outermost.
    pub pattern: Vec<Item>,
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// Rules of lower numbers come first.
    pub priority: u32,
    /// The table that the rule is in; packets meet table 0.
    pub group: u32,
}

impl Rule {
    /// All packets, and nothing is done.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only packets with this header next.
    #[must_use]
    pub fn when(mut self, item: Item) -> Self {
        self.pattern.push(item);
        self
    }

    /// Does this too.
    #[must_use]
    pub fn then(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }
}

/// A rule that a device follows until this is dropped. Its port stays started.
pub struct FlowRule {
    raw: NonNull<sys::rte_flow>,
    running: Arc<Running>,
    counts: bool,
}

// SAFETY: the rule belongs to the port, whose control calls any thread may make, one at a time.
unsafe impl Send for FlowRule {}
// SAFETY: as above.
unsafe impl Sync for FlowRule {}

/// Packets that a rule has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCount {
    /// How many; `None` where the device does not count them.
    pub packets: Option<u64>,
    /// Their bytes; `None` where the device does not count them.
    pub bytes: Option<u64>,
}

impl Port<Started> {
    /// Asks whether the device could follow a rule, as things stand.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a queue that is not there; [`DpdkError::Refused`] with the driver's reason
    /// when it could not.
    pub fn validate_flow(&self, rule: &Rule) -> Result<()> {
        let running = &self.state.0;
        with_raw(running, rule, |attributes, pattern, actions, error| {
            // SAFETY: the port is started; the lists end as they should, and are read during the call.
            let code = unsafe {
                sys::rte_flow_validate(running.id(), attributes, pattern, actions, error)
            };
            if code == 0 { Some(()) } else { None }
        })
    }

    /// Has the device follow a rule.
    ///
    /// # Errors
    ///
    /// As [`validate_flow`](Self::validate_flow).
    pub fn create_flow(&self, rule: &Rule) -> Result<FlowRule> {
        let running = &self.state.0;
        let raw = with_raw(running, rule, |attributes, pattern, actions, error| {
            // SAFETY: the port is started; the lists end as they should, and are read during the call.
            let raw =
                unsafe { sys::rte_flow_create(running.id(), attributes, pattern, actions, error) };
            NonNull::new(raw)
        })?;
        let counts = rule.actions.contains(&Action::Count);
        Ok(FlowRule { raw, running: Arc::clone(running), counts })
    }
}

/// Shows a rule to DPDK.
fn with_raw<T>(
    running: &Running,
    rule: &Rule,
    call: impl FnOnce(
        *const sys::rte_flow_attr,
        *const sys::rte_flow_item,
        *const sys::rte_flow_action,
        *mut sys::rte_flow_error,
    ) -> Option<T>,
) -> Result<T> {
    let queues = rule.actions.iter().flat_map(|action| match action {
        Action::Queue(queue) => std::slice::from_ref(queue),
        Action::Rss(queues) => queues,
        _ => &[],
    });
    if let Some(queue) = queues.into_iter().find(|&&queue| usize::from(queue) >= running.rx.len()) {
        let why = format!("there are {} receiving queues, from 0", running.rx.len());
        return Err(Error::config("queue", queue, why));
    }
    for action in &rule.actions {
        // Drivers copy the list to where there is room for each of the queues once.
        let Action::Rss(queues) = action else { continue };
        let again = |i: usize| queues[..i].contains(&queues[i]);
        if queues.is_empty() || (0..queues.len()).any(again) {
            let why = "packets are spread over at least one queue, and each is named once";
            return Err(Error::config("actions", format!("{action:?}"), why));
        }
    }
    let encoded: Vec<Encoded> = rule.pattern.iter().map(|item| item.encode()).collect();
    let pattern: Vec<_> = encoded.iter().map(item).chain([end_of_items()]).collect();
    let configs: Vec<Config> = rule.actions.iter().map(Config::of).collect();
    let actions: Vec<_> = configs.iter().map(Config::action).chain([end_of_actions()]).collect();
    let mut attributes = MaybeUninit::<sys::rte_flow_attr>::zeroed();
    // SAFETY: it consists of numbers.
    let attributes = unsafe { attributes.assume_init_mut() };
    (attributes.group, attributes.priority) = (rule.group, rule.priority);
    attributes.set_ingress(1);
    let mut error = no_error();
    let _one = running.device.control();
    call(attributes, pattern.as_ptr(), actions.as_ptr(), &raw mut error)
        .ok_or_else(|| refused(running, "follow a flow rule", &error))
}

fn item(encoded: &Encoded) -> sys::rte_flow_item {
    let is_any = encoded.mask.iter().all(|&word| word == 0);
    let at = |header: &[u64; 8]| if is_any { ptr::null() } else { header.as_ptr().cast() };
    sys::rte_flow_item {
        type_: encoded.kind,
        spec: at(&encoded.spec),
        last: ptr::null(),
        mask: at(&encoded.mask),
    }
}

const fn end_of_items() -> sys::rte_flow_item {
    let type_ = sys::RTE_FLOW_ITEM_TYPE_END;
    sys::rte_flow_item { type_, spec: ptr::null(), last: ptr::null(), mask: ptr::null() }
}

const fn end_of_actions() -> sys::rte_flow_action {
    sys::rte_flow_action { type_: sys::RTE_FLOW_ACTION_TYPE_END, conf: ptr::null() }
}

/// What an action needs to know.
enum Config {
    Queue(sys::rte_flow_action_queue),
    /// It points to the rule's queues, which outlive it.
    Rss(Box<sys::rte_flow_action_rss>),
    Mark(sys::rte_flow_action_mark),
    Count(sys::rte_flow_action_count),
    Drop,
}

impl Config {
    fn of(action: &Action) -> Self {
        match action {
            Action::Queue(queue) => Self::Queue(sys::rte_flow_action_queue { index: *queue }),
            Action::Mark(mark) => Self::Mark(sys::rte_flow_action_mark { id: *mark }),
            Action::Count => Self::Count(sys::rte_flow_action_count { id: 0 }),
            Action::Drop => Self::Drop,
            Action::Rss(queues) => {
                // SAFETY: zeros are the defaults of every field; it consists of numbers and pointers.
                let mut rss: sys::rte_flow_action_rss =
                    unsafe { MaybeUninit::zeroed().assume_init() };
                rss.queue_num = queues.len() as u32;
                rss.queue = queues.as_ptr();
                Self::Rss(Box::new(rss))
            }
        }
    }

    fn action(&self) -> sys::rte_flow_action {
        let (type_, conf) = match self {
            Self::Queue(queue) => (sys::RTE_FLOW_ACTION_TYPE_QUEUE, ptr::from_ref(queue).cast()),
            Self::Rss(rss) => (sys::RTE_FLOW_ACTION_TYPE_RSS, ptr::from_ref(&**rss).cast()),
            Self::Mark(mark) => (sys::RTE_FLOW_ACTION_TYPE_MARK, ptr::from_ref(mark).cast()),
            Self::Count(count) => (sys::RTE_FLOW_ACTION_TYPE_COUNT, ptr::from_ref(count).cast()),
            Self::Drop => (sys::RTE_FLOW_ACTION_TYPE_DROP, ptr::null()),
        };
        sys::rte_flow_action { type_, conf }
    }
}

const fn no_error() -> sys::rte_flow_error {
    sys::rte_flow_error {
        type_: sys::RTE_FLOW_ERROR_TYPE_NONE,
        cause: ptr::null(),
        message: ptr::null(),
    }
}

/// What the driver said.
fn refused(running: &Running, attempt: &str, error: &sys::rte_flow_error) -> Error {
    // SAFETY: it reads a thread-local variable.
    let errno = unsafe { sys::bypass_errno() };
    let attempt = format!("{attempt} on port {} ({})", running.id(), running.device.name());
    let refused = DpdkError::refused(attempt, errno);
    if error.message.is_null() {
        return refused.into();
    }
    // SAFETY: drivers' messages are constants.
    let message = unsafe { CStr::from_ptr(error.message) };
    refused
        .with_remedy(format!("{} says: {}", running.report.driver, message.to_string_lossy()))
        .into()
}

impl FlowRule {
    /// How many packets it has met.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a rule without [`Action::Count`]; [`DpdkError::Refused`] when the driver does
    /// not say.
    pub fn count(&self) -> Result<FlowCount> {
        if !self.counts {
            return Err(Error::config("actions", "no Count", "only rules with that action count"));
        }
        let mut counter = MaybeUninit::<sys::rte_flow_query_count>::zeroed();
        let actions = [Config::of(&Action::Count).action_type(), end_of_actions()];
        let mut error = no_error();
        let one = self.running.device.control();
        // SAFETY: the rule is there, as long as this; there is room for the answer to this question.
        let code = unsafe {
            sys::rte_flow_query(
                self.running.id(),
                self.raw.as_ptr(),
                actions.as_ptr(),
                counter.as_mut_ptr().cast(),
                &raw mut error,
            )
        };
        drop(one);
        if code != 0 {
            return Err(refused(&self.running, "read a flow rule's counter", &error));
        }
        // SAFETY: it was zeroed, and consists of numbers.
        let counter = unsafe { counter.assume_init() };
        Ok(FlowCount {
            packets: (counter.hits_set() == 1).then_some(counter.hits),
            bytes: (counter.bytes_set() == 1).then_some(counter.bytes),
        })
    }
}

impl Config {
    /// The kind of the action, and no more.
    fn action_type(&self) -> sys::rte_flow_action {
        sys::rte_flow_action { conf: ptr::null(), ..self.action() }
    }
}

impl Drop for FlowRule {
    fn drop(&mut self) {
        let mut error = no_error();
        let _one = self.running.device.control();
        // SAFETY: the rule is there, and nobody asks for it any more.
        let _until_the_port_stops =
            unsafe { sys::rte_flow_destroy(self.running.id(), self.raw.as_ptr(), &raw mut error) };
    }
}

impl fmt::Debug for FlowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowRule").field("port", &self.running.id()).finish_non_exhaustive()
    }
}
