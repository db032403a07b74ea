use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Elements of a buffer.
pub(crate) enum Store<T> {
    /// Our own, shared until written.
    Own(Arc<Vec<T>>),
    /// Of who runs the kernel, for one run. A clone is our own.
    #[cfg(in_library)]
    Lent(Box<dyn Lent<T>>),
}

/// Memory of somebody else.
#[cfg(in_library)]
pub(crate) trait Lent<T>: Send + Sync {
    /// What is there.
    fn elements(&self) -> &[T];
    /// The same to be written; none where it may only be read.
    fn elements_mut(&mut self) -> Option<&mut [T]>;
}

impl<T: Copy> Store<T> {
    /// The elements to be written: those of others where that is allowed, else a copy.
    pub(crate) fn make_mut(&mut self) -> &mut [T] {
        #[cfg(in_library)]
        if let Store::Lent(lent) = self
            && lent.elements_mut().is_none()
        {
            *self = Store::Own(Arc::new(lent.elements().to_vec()));
        }
        match self {
            Store::Own(own) => Arc::make_mut(own).as_mut_slice(),
            #[cfg(in_library)]
            Store::Lent(lent) => lent.elements_mut().unwrap_or_default(),
        }
    }
}

impl<T> Deref for Store<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Store::Own(own) => own,
            #[cfg(in_library)]
            Store::Lent(lent) => lent.elements(),
        }
    }
}

impl<T: Copy> Clone for Store<T> {
    fn clone(&self) -> Self {
        match self {
            Store::Own(own) => Store::Own(Arc::clone(own)),
            #[cfg(in_library)]
            Store::Lent(lent) => Store::Own(Arc::new(lent.elements().to_vec())),
        }
    }
}

impl<T: PartialEq> PartialEq for Store<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T> From<Vec<T>> for Store<T> {
    fn from(elements: Vec<T>) -> Self {
        Store::Own(Arc::new(elements))
    }
}

impl<T: fmt::Debug> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}
