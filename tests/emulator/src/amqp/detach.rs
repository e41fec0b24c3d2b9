//! Links and sessions end.

use super::attach::write_attach;
use super::connection::{Connection, Trouble};
use super::error::Error;
use super::link::{LinkId, Node, Outlet};
use super::performative::{Detach, Role};
use super::session::Slot;
use super::unsettled::Unsettled;

impl Connection {
    /// Ends a session because of an error; the client's own end makes it forgotten.
    pub(super) fn end_session(&mut self, channel: u16, error: &Error) {
        self.drop_links(channel);
        if let Some(session) = self.sessions.get_mut(&channel) {
            session.end(&mut self.out, Some(error));
            session.ended = true;
            session.unsettled = Unsettled::default();
        }
    }

    pub(super) fn drop_session(&mut self, channel: u16) {
        self.drop_links(channel);
        self.sessions.remove(&channel);
    }

    fn drop_links(&mut self, channel: u16) {
        let Some(session) = self.sessions.get_mut(&channel) else { return };
        for slot in std::mem::take(&mut session.slots).into_values() {
            self.drop_link(slot);
        }
    }

    /// Forgets a link, and all that was on its way on it.
    fn drop_link(&mut self, slot: Slot) {
        match slot {
            Slot::In(link) => {
                let inlet = self.inlets.remove(&link);
                let unfinished = inlet.and_then(|inlet| inlet.unfinished);
                self.unfinished -= unfinished.map_or(0, |unfinished| unfinished.bytes.len());
            }
            Slot::Out(link) => {
                self.answers -= self.outlets.get(&link).map_or(0, Outlet::answers);
                let unsent = self.outlets.get_mut(&link).map(Outlet::take_unsent);
                self.release(link, unsent.unwrap_or_default());
                if let Some(outlet) = self.outlets.remove(&link)
                    && let Some(session) = self.sessions.get_mut(&outlet.place.channel)
                {
                    session.unsettled.drop_link(link);
                }
            }
            Slot::Gone => {}
        }
    }

    /// The client detaches a link, or says that it has heard of a detach from here.
    pub(super) fn detached(&mut self, channel: u16, detach: &Detach) -> Result<(), Trouble> {
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(()) };
        let Some(slot) = session.slots.remove(&detach.handle) else {
            let error =
                Error::new("amqp:session:unattached-handle", "a detach of a handle that isn't attached");
            return Err(Trouble::Session(error));
        };
        if let Slot::Gone = slot {
            return Ok(());
        }
        self.attach_to_detach(slot);
        self.drop_link(slot);
        if let Some(session) = self.sessions.get_mut(&channel) {
            session.detach(&mut self.out, detach.handle, detach.closed, None);
        }
        Ok(())
    }

    /// What isn't attached from here yet can't be detached before it is.
    fn attach_to_detach(&mut self, slot: Slot) {
        if let Slot::Out(link) = slot
            && let Some(outlet) = self.outlets.get(&link).filter(|outlet| !outlet.attached)
        {
            let reply = Self::refusal(Role::Receiver, &outlet.attach);
            write_attach(&mut self.out, outlet.place.channel, &outlet.place, Role::Receiver, &reply, None);
        }
    }

    /// Detaches a link because of an error.
    pub(super) fn detach(&mut self, link: LinkId, error: &Error) {
        let inlet = self.inlets.get(&link).map(|inlet| (&inlet.place, Slot::In(link)));
        let outlet = self.outlets.get(&link).map(|outlet| (&outlet.place, Slot::Out(link)));
        let Some((place, slot)) = inlet.or(outlet) else { return };
        let (channel, handle) = (place.channel, place.handle);
        self.attach_to_detach(slot);
        self.drop_link(slot);
        if let Some(session) = self.sessions.get_mut(&channel) {
            session.slots.insert(handle, Slot::Gone);
            session.detach(&mut self.out, handle, true, Some(error));
        }
    }

    /// Links whose tokens have ended, or that did nothing for too long.
    pub(super) fn check_links(&mut self) {
        let now = self.shared.host.now();
        let idle = self.shared.limits.link_idle;
        let places = self.inlets.iter().map(|(link, inlet)| (link, &inlet.place));
        let places = places.chain(self.outlets.iter().map(|(link, outlet)| (link, &outlet.place)));
        let ended: Vec<(LinkId, Error)> = places
            .filter_map(|(link, place)| {
                if place.node != Node::Cbs && !self.access.allows(&place.address, now) {
                    let text = format!("Unauthorized access. The token for '{}' has expired.", place.address);
                    Some((*link, Error::new("amqp:unauthorized-access", text)))
                } else if matches!(place.node, Node::Entity(_)) && place.is_idle(idle) {
                    let text = format!("The link '{}' was idle for {idle:?}.", place.name);
                    Some((*link, Error::new("amqp:link:detach-forced", text)))
                } else {
                    None
                }
            })
            .collect();
        for (link, error) in ended {
            self.detach(link, &error);
        }
    }
}
