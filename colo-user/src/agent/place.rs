//! Where a captured frame belongs, as the epochs see it.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the current epoch: hand it in.
    Now,
    /// In a later one, or nobody knows yet: keep it, and all behind it.
    Wait,
    /// Nobody will know: it counts for neither side.
    Drop,
}
