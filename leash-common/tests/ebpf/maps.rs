//! In the place of `leash-ebpf/src/maps.rs`. What a map holds is its thread's, and stays as long as the test program runs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap as Store;
use std::ffi::c_void;
use std::marker::PhantomData;

use leash_common::session::{Config, Counters, FOLD_WORDS, MountKey, Scratch, SessionRecord, TaskRecord};
use leash_common::table::Page;

thread_local! {
    static VALUES: RefCell<Store<(&'static str, [u64; 2]), usize>> = RefCell::default();
}

fn find<V>(map: &'static str, key: [u64; 2]) -> Option<*mut V> {
    VALUES.with_borrow(|values| values.get(&(map, key)).map(|&address| address as *mut V))
}

/// A value of zeros.
fn make<V>(map: &'static str, key: [u64; 2]) -> *mut V {
    let layout = std::alloc::Layout::new::<V>();
    // SAFETY: no value of a map is empty.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    VALUES.with_borrow_mut(|values| values.insert((map, key), memory as usize));
    memory.cast()
}

/// An array has all its elements.
pub struct Array<V>(&'static str, PhantomData<fn() -> V>);

impl<V> Array<V> {
    pub fn get_ptr_mut(&self, index: u32) -> Option<*mut V> {
        let key = [index.into(), 0];
        Some(find(self.0, key).unwrap_or_else(|| make(self.0, key)))
    }

    pub fn get(&self, index: u32) -> Option<&'static V> {
        // SAFETY: values stay, and are integers.
        self.get_ptr_mut(index).map(|value| unsafe { &*value })
    }
}

pub struct HashMap<K, V>(&'static str, fn(K) -> [u64; 2], PhantomData<fn() -> V>);

impl<K, V> HashMap<K, V> {
    pub unsafe fn get(&self, key: K) -> Option<&'static V> {
        // SAFETY: values stay, and are integers.
        find::<V>(self.0, (self.1)(key)).map(|value| unsafe { &*value })
    }

    /// `flags`: 1 if there must be none yet.
    pub fn insert(&self, key: K, value: V, flags: u64) -> Result<(), i32> {
        let key = (self.1)(key);
        let place: Option<*mut V> = find(self.0, key);
        if place.is_some() && flags == 1 {
            return Err(-17);
        }
        // SAFETY: a place for a value.
        unsafe { place.unwrap_or_else(|| make(self.0, key)).write(value) };
        Ok(())
    }
}

/// A map whose values tests put there.
pub struct Given<V>(&'static str, PhantomData<fn() -> V>);

impl<V> Given<V> {
    pub fn get(&self, index: u32) -> Option<&'static V> {
        // SAFETY: see `put`.
        find::<V>(self.0, [index.into(), 0]).map(|value| unsafe { &*value })
    }

    pub fn put(&self, index: u32, value: V) -> &'static V {
        let place: *mut V = make(self.0, [index.into(), 0]);
        // SAFETY: a place for a value; it stays.
        unsafe {
            place.write(value);
            &*place
        }
    }
}

/// A ring buffer that keeps what it is given, if it has room.
#[derive(Default)]
pub struct Ring {
    pub records: RefCell<Vec<Vec<u8>>>,
    pub full: Cell<bool>,
}

impl Ring {
    pub fn put(&self, record: &[u8]) -> i64 {
        if self.full.get() {
            return -11;
        }
        self.records.borrow_mut().push(record.to_vec());
        0
    }
}

pub struct TaskStorage;

impl TaskStorage {
    pub fn get(&self, task: *mut c_void, create: bool) -> *mut TaskRecord {
        let key = [task as u64, 0];
        let none = if create { make("TASKS", key) } else { std::ptr::null_mut() };
        find("TASKS", key).unwrap_or(none)
    }
}

pub static CONFIG: Array<Config> = Array("CONFIG", PhantomData);
pub static SESSIONS: Array<SessionRecord> = Array("SESSIONS", PhantomData);
pub static COUNTERS: Array<Counters> = Array("COUNTERS", PhantomData);
pub static CGROUPS: HashMap<u64, u32> = HashMap("CGROUPS", |id| [id, 0], PhantomData);
pub static IMAGES: Given<Vec<Page>> = Given("IMAGES", PhantomData);
pub static RINGS: Given<Ring> = Given("RINGS", PhantomData);
pub static FOLD: Array<[u64; FOLD_WORDS]> = Array("FOLD", PhantomData);
pub static TASKS: TaskStorage = TaskStorage;
pub static SCRATCH: Array<Scratch> = Array("SCRATCH", PhantomData);
pub static MOUNTS: HashMap<MountKey, u64> = HashMap("MOUNTS", |key| [key.slot, key.dentry], PhantomData);
