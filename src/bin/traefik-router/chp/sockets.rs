//! How much the open connections of a process have carried, as the kernel counts it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

/// An open TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    /// What no other connection has, however short-lived its ports are.
    cookie: [u8; 8],
}

/// The bytes, of both directions, that each open connection of a process has carried so far.
///
/// # Errors
/// If the kernel does not tell. Only Linux does.
#[cfg(not(target_os = "linux"))]
pub(super) fn carried(_process: u32) -> io::Result<HashMap<Connection, u64>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
pub(super) use self::linux::carried;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashSet;

    use netlink_packet_core::{
        NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    };
    use netlink_packet_sock_diag::SockDiagMessage;
    use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
    use netlink_packet_sock_diag::inet::nlas::Nla;
    use netlink_packet_sock_diag::inet::{
        ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
    };
    use netlink_sys::Socket;
    use netlink_sys::protocols::NETLINK_SOCK_DIAG;

    use super::{Connection, HashMap, SocketAddr, io};

    /// Where the kernel's `tcp_info` has the bytes that were acknowledged; those that were received
    /// follow.
    const BYTES_ACKED: usize = 120;

    pub(in super::super) fn carried(process: u32) -> io::Result<HashMap<Connection, u64>> {
        // Of a program with capabilities of its own only root may see the sockets.
        let own = sockets_of(process).ok();
        let mut found = HashMap::new();
        for (family, any) in [
            (AF_INET, SocketId::new_v4()),
            (AF_INET6, SocketId::new_v6()),
        ] {
            each_connection(family, any, |response| {
                let header = &response.header;
                if own.as_ref().is_none_or(|own| own.contains(&header.inode)) {
                    let id = &header.socket_id;
                    let peer = id.destination_address.to_canonical();
                    let connection = Connection {
                        peer: SocketAddr::new(peer, id.destination_port),
                        cookie: id.cookie,
                    };
                    found.insert(connection, bytes(response));
                }
            })?;
        }
        Ok(found)
    }

    /// The numbers of a process' sockets.
    fn sockets_of(process: u32) -> io::Result<HashSet<u32>> {
        let number = |path: std::path::PathBuf| {
            let number = path.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            number.parse().ok()
        };
        let files = std::fs::read_dir(format!("/proc/{process}/fd"))?;
        // A file that was closed meanwhile is no socket any more.
        let links = files.flatten().map(|file| std::fs::read_link(file.path()));
        Ok(links.flatten().filter_map(number).collect())
    }

    fn each_connection(
        family: u8,
        socket_id: SocketId,
        mut see: impl FnMut(&InetResponse),
    ) -> io::Result<()> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        // The kernel answers within our own calls, so that there is never anything to wait for.
        socket.set_non_blocking(true)?;
        socket.send(&question(family, socket_id), 0)?;
        loop {
            let (datagram, _) = socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                // Messages begin at multiples of four.
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length.max(4)..).unwrap_or_default();
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                        see(&response);
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// Asks for all established TCP connections of a family.
    fn question(family: u8, socket_id: SocketId) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::ESTABLISHED,
            socket_id,
        });
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        buffer
    }

    fn bytes(response: &InetResponse) -> u64 {
        let info = response.nlas.iter().find_map(|nla| match nla {
            Nla::TcpInfo(info) => info.get(BYTES_ACKED..BYTES_ACKED + 16),
            _ => None,
        });
        let (counters, _) = info.unwrap_or_default().as_chunks::<8>();
        counters.iter().copied().map(u64::from_ne_bytes).sum()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_of_connections_are_counted() {
        let own = std::process::id();
        for host in ["127.0.0.1", "::1"] {
            let Ok(listener) = TcpListener::bind((host, 0)) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            let mut server = listener.accept().unwrap().0;
            let seen = || {
                let all = carried(own).unwrap();
                let to_us = all.into_iter().filter(|(one, _)| one.peer == address);
                to_us.map(|(_, bytes)| bytes).collect::<Vec<_>>()
            };
            let before = seen();
            assert_eq!(before.len(), 1, "one end of it");
            assert_eq!(seen(), before);
            client.write_all(&[1; 700]).unwrap();
            server.read_exact(&mut [0; 700]).unwrap();
            server.write_all(&[1; 300]).unwrap();
            client.read_exact(&mut [0; 300]).unwrap();
            // The first end of a connection to be acknowledged counts one more.
            let grown = seen()[0] - before[0];
            assert!((1000..=1001).contains(&grown), "{grown}");
            drop((client, server));
            assert!(seen().is_empty());
            assert!(carried(1).unwrap().keys().all(|one| one.peer != address));
        }
    }
}
