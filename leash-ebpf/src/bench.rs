//! The decision without a hook, for machines that refuse LSM programs: measured and compared with userspace by test runs.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use leash_common::kind::Kind;
use leash_common::table::{LEAF, LEAF_ALLOW, decide_row, header};

use crate::decide::{installed, start};
use crate::scan::scan;
use crate::scratch;

/// Decides the path of area 0 in scratch slot 0 by the image of session 0: kind and program class are in `override_kinds` and
/// `override_cause`. Returns a leaf of the tables, or 0 if the image is corrupt.
#[classifier]
pub fn leash_bench(_context: TcContext) -> i32 {
    let Some(memory) = scratch::memory(0) else { return 0 };
    let Some(installed) = installed(0) else { return 0 };
    let Ok(cursor) = start(&installed.pages, header::START_TEXT) else { return 0 };
    // SAFETY: nothing else runs while userspace measures.
    unsafe {
        let area = (&raw mut (*memory).area).cast::<leash_common::session::Area>();
        let scanned = scan(&installed.pages, cursor, (&raw mut (*area).path).cast(), (*memory).start[0]);
        if scanned.corrupt || !scanned.utf8 {
            return 0;
        }
        // INVARIANT: `Kind`s are numbered without holes from 0 to 15.
        let kind = core::mem::transmute::<u8, Kind>((*memory).override_kinds as u8 & 15);
        match decide_row(&installed.pages, scanned.cursor.accept(), kind, (*memory).override_cause) {
            Ok(decision) if decision.allow => (LEAF | LEAF_ALLOW | decision.reason) as i32,
            Ok(decision) => (LEAF | decision.reason) as i32,
            Err(_) => 0,
        }
    }
}
