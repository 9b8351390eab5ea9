//! How a child says why it could not become the program: by the number of a step, since it may not allocate.

/// The step at which a child could not become the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Inherit = 1,
    Directory,
    Groups,
    Group,
    User,
    Capabilities,
    Verify,
    NoNewPrivileges,
    Exec,
}

impl Step {
    pub(super) const ALL: [Step; 9] = [
        Step::Inherit,
        Step::Directory,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::Capabilities,
        Step::Verify,
        Step::NoNewPrivileges,
        Step::Exec,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Step::Inherit => "handing descriptors to the program",
            Step::Directory => "changing to the program's directory",
            Step::Groups => "setting the program's supplementary groups",
            Step::Group => "setting the program's group",
            Step::User => "setting the program's user",
            Step::Capabilities => "taking the program's capabilities",
            Step::Verify => "verifying that the program cannot regain its privileges",
            Step::NoNewPrivileges => "setting no_new_privs",
            Step::Exec => "starting the program",
        }
    }
}
