//! What talking, listening and living stand on.

use super::clock::Clock;
use super::news::News;
use crate::settings::Settings;
use crate::sys::poll::Poll;

pub(crate) struct Ground<'a> {
    pub(crate) poll: &'a Poll,
    pub(crate) settings: &'a Settings,
    pub(crate) clock: &'a mut Clock,
    pub(crate) news: &'a mut News,
}
