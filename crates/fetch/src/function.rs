//! The functions there are, and their sets: what flows find declared.

/// An I/O function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Requests over HTTP.
    Http,
    /// Objects of a store, fetched.
    ObjectGet,
    /// Objects of a store, stored: each item of `objects` where the item of `keys` with its name says.
    ObjectPut,
    /// Keys of a store's objects.
    ObjectList,
}

/// The set that says of each input item what became of it. Who takes it is handed failures; for others they end the run.
pub const STATUS: &str = "status";

impl Function {
    pub const ALL: [Self; 4] = [Self::Http, Self::ObjectGet, Self::ObjectPut, Self::ObjectList];

    /// As flows call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::ObjectGet => "object_get",
            Self::ObjectPut => "object_put",
            Self::ObjectList => "object_list",
        }
    }

    /// The function of a name; Dandelion's flows write `HTTP`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name || (*function == Self::Http && name == "HTTP"))
    }

    pub fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Http => &["requests"],
            Self::ObjectGet => &["keys"],
            Self::ObjectPut => &["keys", "objects"],
            Self::ObjectList => &["prefixes"],
        }
    }

    /// Other names of inputs, each with the one that it is another name of.
    pub fn aliases(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Http => &[("request", "requests")],
            Self::ObjectGet | Self::ObjectPut | Self::ObjectList => &[],
        }
    }

    pub fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Http => &["headers", "bodies", "responses", STATUS],
            Self::ObjectGet => &["objects", STATUS],
            Self::ObjectPut => &["results", STATUS],
            Self::ObjectList => &["keys", STATUS],
        }
    }
}
