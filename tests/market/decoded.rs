//! Messages field by field, beside a reader and writer of ITCH that others have written.

use std::collections::BTreeSet;

use zerocopy::byteorder::big_endian::{U16, U32, U64};

use crate::common::{meatpy, without_direct_listings};
use crate::day::Day;
use crate::formats::LENGTHS;
use crate::itch::{Header, Message};

/// A field as meatpy prints it.
trait Field {
    fn text(&self) -> String;
}

impl Field for u8 {
    fn text(&self) -> String {
        char::from(*self).to_string()
    }
}

impl<const N: usize> Field for [u8; N] {
    fn text(&self) -> String {
        self.iter().copied().map(char::from).collect()
    }
}

macro_rules! number {
    ($($number:ty)*) => {$(
        impl Field for $number {
            fn text(&self) -> String {
                self.get().to_string()
            }
        }
    )*};
}

number!(U16 U32 U64);

/// The header of a message, and the text of its fields, which are named in the order of the specification.
macro_rules! texts {
    ($message:expr, $($kind:ident { $($field:ident),* $(,)? })*) => {
        match $message {
            $(Message::$kind(message) => (&message.header, vec![$(message.$field.text()),*]),)*
        }
    };
}

fn texts(message: Message<'_>) -> (&Header, Vec<String>) {
    texts! { message,
        SystemEvent { event }
        StockDirectory {
            stock, market_category, financial_status, round_lot_size, round_lots_only, issue_classification,
            issue_subtype, authenticity, short_sale_threshold, ipo, luld_tier, etp, etp_leverage, inverse,
        }
        TradingAction { stock, state, reserved, reason }
        RegSho { stock, action }
        ParticipantPosition { mpid, stock, primary, mode, state }
        MwcbDeclineLevels { level1, level2, level3 }
        MwcbStatus { breached }
        IpoQuotingPeriod { stock, release_time, qualifier, price }
        LuldAuctionCollar { stock, reference, upper, lower, extension }
        OperationalHalt { stock, market, action }
        AddOrder { reference, side, shares, stock, price }
        AddOrderAttributed { reference, side, shares, stock, price, attribution }
        OrderExecuted { reference, shares, match_number }
        OrderExecutedWithPrice { reference, shares, match_number, printable, price }
        OrderCancel { reference, shares }
        OrderDelete { reference }
        OrderReplace { original, reference, shares, price }
        Trade { reference, side, shares, stock, price, match_number }
        CrossTrade { shares, stock, price, match_number, cross }
        BrokenTrade { match_number }
        Noii { paired, imbalance, direction, stock, far, near, reference, cross, variation }
        RetailInterest { stock, interest }
        DirectListing {
            stock, open_eligible, lowest_allowable, highest_allowable, near, near_time, lower_collar, upper_collar,
        }
    }
}

#[test]
fn every_field_of_every_message_is_what_meatpy_reads_and_writes() {
    let day = Day::generate(5, 20_000);
    let file = std::env::temp_dir().join(format!("market-decoded-{}.itch", std::process::id()));
    let blocks = without_direct_listings(day.bytes());
    std::fs::write(&file, blocks.concat()).unwrap();
    let said = meatpy("decode.py", &file);
    std::fs::remove_file(&file).unwrap();
    let Some(said) = said else { return };
    let said = String::from_utf8(said).unwrap();
    let mut lines = said.lines();
    let mut kinds = BTreeSet::new();
    for block in blocks {
        let message = &block[2..];
        let (header, values) = texts(Message::read(message).unwrap());
        kinds.insert(header.kind);
        let front = [
            header.kind.text(),
            header.nanos().to_string(),
            header.locate.text(),
            header.tracking.text(),
        ];
        let bytes = message.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = [&front[..], &values, &[bytes]].concat().join("|");
        assert_eq!(lines.next(), Some(&*line));
    }
    assert_eq!(lines.next(), None);
    assert_eq!(kinds.len(), LENGTHS.len() - 1, "all but direct listings");
}
