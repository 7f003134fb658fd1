//! Finding the first addresses of a Peer Channel mesh: static list, ticket, LAN, directory service.
