//! `decide.rs` and `emit.rs`: from a path to an answer, and a record that says what was asked.

use leash_common::event::{Cause, HEADER_BYTES, Header, RECORD_EVENT, RECORD_FLUSH};
use leash_common::kind::{Kind, Protocol};
use leash_common::session::{Counters, EPOCH_WORD, TaskRecord};
use leash_common::table::{HEADER, LEAF, LEAF_ALLOW, MAGIC, MAX_PATH_BYTES, PAGE_WORDS, header};

use crate::decide::judge;
use crate::fixture::structure;
use crate::kernel::set_task;
use crate::maps::{COUNTERS, IMAGES, RINGS, Ring, TASKS};
use crate::scratch::{Claim, claim, none_left};

const SLOT: u32 = 9;
/// Words where the states of [`install`] begin.
const TEXT: usize = 16;
const ROW: usize = TEXT + 256;
const PROGRAMS: usize = ROW + 256;
const ALLOWED: u32 = 7;
const DENIED: u32 = 9;

/// A policy that permits everything but writing, whatever the name is; returns the rings of denials and of allowed actions.
fn install(enforce: bool) -> [&'static Ring; 2] {
    let mut page = Box::new([0_u64; PAGE_WORDS]);
    page[header::MAGIC] = MAGIC;
    page[header::GENERATION] = u64::from(enforce) << 32 | 4;
    page[EPOCH_WORD] = 6;
    for start in [header::START_TEXT, header::START_IPV4, header::START_IPV6] {
        page[start] = 8 * TEXT as u64;
    }
    page[header::START_EXE] = 8 * PROGRAMS as u64;
    let head = |accept: usize, next: u64| u64::from(HEADER | accept as u32) << 32 | next;
    page[TEXT] = head(8 * ROW, 8 * TEXT as u64);
    page[ROW] = head(0, u64::from(LEAF | LEAF_ALLOW | ALLOWED));
    page[ROW + Kind::FileWrite as usize + 1] = (8 * ROW as u64) << 32 | u64::from(LEAF | DENIED);
    page[PROGRAMS] = head(2, 8 * PROGRAMS as u64);
    IMAGES.put(SLOT, vec![*page]);
    [0, 1].map(|verdict| RINGS.put(SLOT * 2 + verdict, Ring::default()))
}

/// Makes a task that runs `program` the current one.
fn run(program: &str) {
    let task = structure();
    set_task(task);
    // SAFETY: a value of the map.
    let record: &mut TaskRecord = unsafe { &mut *TASKS.get(task as *mut _, true) };
    record.start = (MAX_PATH_BYTES - program.len()) as u32;
    record.path[record.start as usize..].copy_from_slice(program.as_bytes());
}

fn claim_path(path: &str) -> Claim {
    let claim = claim(SLOT).unwrap();
    let start = MAX_PATH_BYTES - path.len();
    // SAFETY: claimed.
    unsafe {
        (*claim.memory).start[0] = start as u32;
        let area = &mut (*claim.memory).area[0];
        area.path[start..].copy_from_slice(path.as_bytes());
    }
    claim
}

fn ask(path: &str, kinds: u32) -> u32 {
    let claim = claim_path(path);
    let denied = judge(&claim, kinds);
    claim.release();
    denied
}

fn counters() -> Counters {
    *COUNTERS.get(SLOT).unwrap()
}

/// A record's header, resource and program.
fn parts(record: &[u8]) -> (Header, String, String) {
    // SAFETY: a record begins with a header.
    let header: Header = unsafe { record.as_ptr().cast::<Header>().read_unaligned() };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (rest, program) = record.split_at(record.len() - usize::from(header.exe_len));
    let resource = &rest[rest.len() - usize::from(header.path_len)..];
    assert!(rest.len() - resource.len() - HEADER_BYTES < 8, "more than padding");
    (header, text(resource), text(program))
}

#[test]
fn a_record_has_the_question_the_answer_and_who_asked() {
    let [denials, allowed] = install(true);
    for length in 1..40 {
        let (path, program) = (format!("/{}", "p".repeat(length)), format!("/bin/{}", "x".repeat(length)));
        run(&program);
        assert_eq!(ask(&path, Kind::FileRead.bit() | Kind::FileWrite.bit()), 1);
        let [denial, answer] = [denials, allowed].map(|ring| parts(ring.records.borrow().last().unwrap()));
        for (header, resource, who) in [&denial, &answer] {
            assert_eq!((resource, who), (&path, &program));
            assert_eq!((header.pid, header.tgid, header.uid, header.generation), (78, 77, 1000, 4));
            assert_eq!((header.record, header.cause, header.enforce, header.count), (RECORD_EVENT, 0, 1, 1));
        }
        assert_eq!((denial.0.kind, denial.0.allow, denial.0.reason), (Kind::FileWrite as u8, 0, DENIED));
        assert_eq!((answer.0.kind, answer.0.allow, answer.0.reason), (Kind::FileRead as u8, 1, ALLOWED));
    }
    assert_eq!(counters(), Counters { performed: [39; 2], recorded: [39; 2], ..Counters::default() });
}

#[test]
fn the_longest_paths_fit_in_a_record() {
    let [denials, _] = install(true);
    let path = format!("/{}", "p".repeat(MAX_PATH_BYTES - 2));
    run(&path);
    assert_eq!(ask(&path, Kind::FileWrite.bit()), 1);
    let (_, resource, program) = parts(&denials.records.borrow()[0]);
    assert_eq!((resource.len(), program.len()), (MAX_PATH_BYTES - 1, MAX_PATH_BYTES - 1));
}

#[test]
fn an_endpoint_is_asked_by_its_numbers() {
    let [_, allowed] = install(true);
    run("/bin/curl");
    for address_len in [4, 16] {
        let claim = claim(SLOT).unwrap();
        // SAFETY: claimed.
        unsafe {
            (*claim.memory).address = std::array::from_fn(|index| index as u8);
            ((*claim.memory).address_len, (*claim.memory).port) = (address_len, 0x1bb);
            (*claim.memory).protocol = Protocol::Udp as u32;
        }
        assert_eq!(judge(&claim, Kind::NetworkConnect.bit()), 0);
        claim.release();
        let (header, resource, program) = parts(allowed.records.borrow().last().unwrap());
        assert_eq!((resource.as_str(), program.as_str()), ("", "/bin/curl"));
        assert_eq!((u32::from(header.address_len), header.port, header.protocol), (address_len, 0x1bb, Protocol::Udp as u8));
        assert_eq!(header.address, std::array::from_fn(|index| index as u8));
    }
}

#[test]
fn what_is_allowed_again_is_counted_and_told_when_its_place_is_taken() {
    let [_, allowed] = install(true);
    run("/bin/x");
    let name = |number: usize| format!("/{number}");
    for _ in 0..5 {
        assert_eq!(ask("/same", Kind::FileRead.bit()), 0);
    }
    assert_eq!(counters(), Counters { performed: [0, 5], recorded: [0, 1], folded: [0, 4], dropped: [0; 2] });
    let told = || allowed.records.borrow().iter().map(|record| parts(record).0).find(|header| header.record == RECORD_FLUSH);
    let asked = (0..100_000).find(|&number| {
        ask(&name(number), Kind::FileRead.bit());
        told().is_some()
    });
    let (first, flush) = (parts(&allowed.records.borrow()[0]).0, told().unwrap());
    assert_eq!((flush.fold_slot, flush.fold_tag, flush.count), (first.fold_slot, first.fold_tag, 4));
    assert_eq!(counters().performed[1], 5 + asked.unwrap() as u64 + 1);
    assert_eq!(counters().performed[1], counters().recorded[1] + counters().folded[1]);
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let rings = install(true);
    run("/bin/x");
    rings.iter().for_each(|ring| ring.full.set(true));
    assert_eq!(ask("/a", Kind::FileRead.bit() | Kind::FileWrite.bit()), 1);
    assert_eq!(counters(), Counters { performed: [1; 2], dropped: [1; 2], ..Counters::default() });
}

#[test]
fn what_cannot_be_decided_is_denied_with_its_cause() {
    let enforced = Kind::FileRead.bit();
    let cause = |ring: &Ring| parts(ring.records.borrow().last().unwrap()).0.cause;
    let [denials, _] = install(true);
    set_task(structure());
    assert_eq!((ask("/a", enforced), cause(denials)), (1, Cause::UnknownProgram as u8));
    run("/bin/x");
    assert_eq!((none_left(SLOT, enforced), cause(denials)), (-13, Cause::NoScratch as u8));
    let claim = claim_path("/a");
    // SAFETY: claimed.
    unsafe { (*claim.memory).cause[0] = Cause::Unreachable as u32 };
    assert_eq!((judge(&claim, enforced), cause(denials)), (1, Cause::Unreachable as u8));
    claim.release();
    let not_text = claim_path("/a");
    // SAFETY: claimed.
    unsafe { (*not_text.memory).area[0].path[MAX_PATH_BYTES - 1] = 0xff };
    assert_eq!(judge(&not_text, enforced), 1);
    assert_eq!(denials.records.borrow().len(), 4);
    not_text.release();
    // In record mode nothing is.
    let [denials, _] = install(false);
    assert_eq!((ask("/a", Kind::FileWrite.bit()), denials.records.borrow().len()), (0, 1));
    assert_eq!(none_left(SLOT, enforced), 0);
}

#[test]
fn without_an_image_everything_is_denied() {
    let ring = RINGS.put(SLOT * 2, Ring::default());
    run("/bin/x");
    assert_eq!(ask("/a", Kind::FileRead.bit()), 1);
    assert_eq!(parts(&ring.records.borrow()[0]).0.cause, Cause::NoImage as u8);
}
