//! The two ends of the conversation between the control plane and a worker.

use crate::protocol::{Command, Event};
pub use sandbox::conversation::{Conversation, TalkError};

/// The control plane's end.
pub type Client = Conversation<Command, Event>;
/// The worker's end.
pub type Server = Conversation<Event, Command>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn both_sides_understand_each_other() {
        let (a, b) = os::seqpacket::pair().unwrap();
        let (client, server) = (Client::new(a).unwrap(), Server::new(b).unwrap());
        let pipe = std::io::pipe().unwrap();
        client.say(&Command::Retire { instance: 5 }, &[pipe.0.as_fd()]).await.unwrap();
        let (command, descriptors) = server.hear().await.unwrap();
        assert_eq!((command, descriptors.len()), (Command::Retire { instance: 5 }, 1));
        server.say(&Event::Spawned { instance: 5 }, &[]).await.unwrap();
        assert_eq!(client.hear().await.unwrap().0, Event::Spawned { instance: 5 });
        drop(server);
        assert!(matches!(client.hear().await, Err(TalkError::Gone)));
    }
}
