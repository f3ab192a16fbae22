//! The checks that hold for packets and datagrams alike.

mod counters;
mod delivery;
mod life;
mod pressure;
pub(super) mod tools;
mod waiting;

use self::counters::*;
use self::delivery::*;
use self::life::*;
use self::pressure::*;
use self::waiting::*;
use super::{Channel, Check};

pub(super) fn all<C: Channel>() -> Vec<Check<C>> {
    macro_rules! checks {
        ($($name:ident),+ $(,)?) => { vec![$(Check { name: stringify!($name), run: $name::<C> }),+] };
    }
    checks![
        delivers_in_order_with_content,
        goes_both_ways,
        carries_every_length,
        reflects_what_it_received,
        refusal_keeps_what_is_not_taken,
        unsendable_stays_first,
        recv_leaves_a_full_burst_alone,
        idle_recv_does_not_block,
        alloc_respects_the_burst,
        fresh_buffers_have_the_stated_room,
        alloc_cannot_starve_recv,
        held_buffers_are_counted_and_come_back,
        a_sender_never_starves,
        counters_add_up,
        wait_times_out,
        wait_wakes_for_a_packet,
        wait_finds_room_to_send,
        the_descriptor_becomes_readable,
        buffers_outlive_their_endpoint,
        opens_again_after_every_teardown,
    ]
}
