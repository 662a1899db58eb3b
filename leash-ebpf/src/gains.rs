//! Whether an object that gets another name becomes open to uses that its old name denies.

use leash_common::event::Cause;
use leash_common::table::{Corrupt, Cursor, gains_nothing, subtree_gains_nothing};

use crate::decide::{image_of, scan_path};
use crate::scratch;

/// Set in the uses that are handed to [`leash_gains`] if the object is a directory, so that all below it counts.
pub const TREE: u32 = 1 << 31;

/// Whether the object that gets the name of the other area gains nothing over the name of area `from`. `uses`: later uses as in
/// [`gains_nothing`], and [`TREE`]. Returns the cause of a denial, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_gains(index: u32, uses: u32, from: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot.
    unsafe {
        if (*scratch).cause[0] | (*scratch).cause[1] != 0 {
            // The question itself fails for that cause.
            return 0;
        }
        let from = from & 1;
        let installed = image_of!(scratch);
        let pages = &installed.pages;
        let cause = scan_path(index, scratch, from);
        if cause != 0 {
            return cause;
        }
        let Ok(mut old) = Cursor::enter(pages, (*scratch).scan.state) else { return Cause::CorruptImage as u32 };
        let cause = scan_path(index, scratch, from ^ 1);
        if cause != 0 {
            return cause;
        }
        let Ok(mut new) = Cursor::enter(pages, (*scratch).scan.state) else { return Cause::CorruptImage as u32 };
        let mut kept = gains_nothing(pages, old.accept(), new.accept(), uses & !TREE);
        if uses & TREE != 0 && kept == Ok(true) {
            let old_next = old.peek(b'/');
            let new_next = new.peek(b'/');
            kept = match (old.follow(pages, old_next), new.follow(pages, new_next)) {
                (Ok(()), Ok(())) => subtree_gains_nothing(pages, &old, &new),
                _ => Err(Corrupt),
            };
        }
        match kept {
            Ok(true) => 0,
            Ok(false) => Cause::GainsAccess as u32,
            Err(Corrupt) => Cause::CorruptImage as u32,
        }
    }
}
