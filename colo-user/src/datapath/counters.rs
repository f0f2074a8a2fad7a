//! All counters of a data path by name.

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterValue {
    /// Name in status and metrics, an interface.
    pub name: &'static str,
    /// Events since the data path was attached.
    pub value: u64,
    /// One line for an operator.
    pub help: &'static str,
}

/// All counters of a data path, those of the XDP programs first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    values: Vec<CounterValue>,
}

impl Counters {
    /// The counter called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.values.iter().find(|counter| counter.name == name).map(|counter| counter.value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &CounterValue> {
        self.values.iter()
    }

    pub(super) fn add(&mut self, name: &'static str, value: u64, help: &'static str) {
        self.values.push(CounterValue { name, value, help });
    }
}
