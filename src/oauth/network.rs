//! Distinguishes this machine and private networks from the public one (RFC 6890), by addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network of an address, the farthest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Network {
    /// The Internet.
    Public,
    /// An organization's network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// The link that this machine is on (RFC 3927, RFC 4291). Clouds serve their machines' credentials there.
    LinkLocal,
    /// This machine.
    Loopback,
}

impl Network {
    /// Returns the network of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // 0.0.0.0 connects to this machine.
            [0 | 127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            // For protocols, for measurements inside a network, and reserved: networks use them as private ones (RFC 6890).
            [192, 0, 0, _] | [198, 18 | 19, ..] | [240..=255, ..] => Self::Private,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let v4 = |high: u16, low: u16| Self::of_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
        match address.segments() {
            // Addresses that contain an IPv4 address: mapped, compatible (RFC 4291), translated (RFC 2765, RFC 6052, RFC 8215),
            // 6to4. `::` and `::1` are loopback because 0.0.0.0 and 0.0.0.1 are.
            [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => v4(high, low),
            [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => v4(high, low),
            [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
            [0x2002, high, low, ..] => v4(high, low),
            // Teredo (RFC 4380): the server that passes packets on, and, with its bits inverted, where they arrive.
            [0x2001, 0, server_high, server_low, _, _, high, low] => v4(server_high, server_low).max(v4(!high, !low)),
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Self::Private,
            _ => Self::Public,
        }
    }

    /// Returns the word for an address there.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Loopback => "loopback",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classified_by_their_network() {
        for (network, addresses) in [
            (
                Network::Loopback,
                "127.0.0.1 127.255.255.255 0.0.0.0 0.1.2.3 ::1 :: ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 \
                 2002:7f00:1:: 2001:0:101:101:0:0:80ff:fffe",
            ),
            (
                Network::LinkLocal,
                "169.254.169.254 169.254.0.1 fe80::1 febf::1 ::ffff:169.254.169.254 2002:a9fe:a9fe::1",
            ),
            (
                Network::Private,
                "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 100.127.255.255 fc00::1 fd00:ec2::254 \
                 fec0::1 ::ffff:10.0.0.1 ::10.0.0.1 64:ff9b::a00:1 64:ff9b:1::a00:1 2002:a00:1:: 192.0.0.1 192.0.0.255 198.18.0.1 \
                 198.19.255.255 240.0.0.1 255.255.255.255 ::ffff:198.18.0.1 ::ffff:0:10.0.0.1 64:ff9b::c612:1 2002:f000:1:: \
                 2001:0:101:101:0:0:f5ff:fffe 2001:0:a00:1:0:0:fefe:fefe",
            ),
            (
                Network::Public,
                "9.255.255.255 11.0.0.1 172.15.255.255 172.32.0.1 192.167.255.255 192.169.0.1 100.63.255.255 100.128.0.1 \
                 126.0.0.1 128.0.0.1 169.253.0.1 1.0.0.1 203.0.113.1 2001:db8::1 2606:4700::1 ::ffff:1.1.1.1 64:ff9b::101:101 \
                 2002:101:101:: 192.0.1.1 198.17.255.255 198.20.0.1 223.255.255.255 2001:0:101:101:0:0:fefe:fefe \
                 ::ffff:0:1.1.1.1",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(Network::of(address.parse().expect(address)), network, "{address}");
            }
        }
    }
}
