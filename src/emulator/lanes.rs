//! Storage of vectors, recycled: tiles of a few sizes come and go with every op, and giving their pages back to the
//! operating system each time costs more than computing them.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Vectors shorter than this are left to the allocator.
const SMALL: usize = 4096;
/// Vectors that a thread keeps of each lane type.
const KEPT: usize = 24;

/// Lanes of a vector.
#[derive(Debug)]
pub(crate) struct Lanes<T: Pooled>(Vec<T>);

/// Lane types with a store of free vectors.
pub(crate) trait Pooled: Copy + Default + Send + Sync + 'static {
    fn pool() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>>;
}

macro_rules! pooled {
    ($type:ty) => {
        impl Pooled for $type {
            fn pool() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>> {
                thread_local!(static POOL: RefCell<Vec<Vec<$type>>> = const { RefCell::new(Vec::new()) });
                &POOL
            }
        }
    };
}
pooled!(f32);
pooled!(i32);
pooled!(bool);

/// An empty vector with room for `n` lanes.
pub(crate) fn room<T: Pooled>(n: usize) -> Vec<T> {
    let reuse = |pool: &RefCell<Vec<Vec<T>>>| {
        let mut pool = pool.borrow_mut();
        let fit = pool.iter().rposition(|v| (n..=2 * n).contains(&v.capacity()))?;
        Some(pool.swap_remove(fit))
    };
    let free = if n < SMALL { None } else { T::pool().try_with(reuse).ok().flatten() };
    free.unwrap_or_else(|| Vec::with_capacity(n))
}

impl<T: Pooled> From<Vec<T>> for Lanes<T> {
    fn from(lanes: Vec<T>) -> Self {
        Lanes(lanes)
    }
}

impl<T: Pooled> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        let mut copy = room(self.len());
        copy.extend_from_slice(self);
        Lanes(copy)
    }
}

impl<T: Pooled> Drop for Lanes<T> {
    fn drop(&mut self) {
        if self.0.capacity() < SMALL {
            return;
        }
        let mut free = std::mem::take(&mut self.0);
        free.clear();
        // At the end of a thread the store is gone and the vector is simply freed.
        let _ = T::pool().try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() == KEPT {
                pool.remove(0);
            }
            pool.push(free);
        });
    }
}

impl<T: Pooled> Deref for Lanes<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Pooled> DerefMut for Lanes<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
