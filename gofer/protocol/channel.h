// Packets with at most one descriptor, over a SOCK_SEQPACKET socket.
#ifndef CAISSON_GOFER_PROTOCOL_CHANNEL_H_
#define CAISSON_GOFER_PROTOCOL_CHANNEL_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace caisson::gofer {

// Sends one packet, with `fd` (borrowed) unless it is -1. Waits for room unless `dont_wait`.
// Returns 0 or an errno: EPIPE when the peer is gone, EAGAIN.
int SendPacket(int socket, absl::string_view bytes, int fd, bool dont_wait = false);

// Receives one packet into [buffer, buffer + size). Returns its length, 0 when the peer is gone, or
// a negative errno: EMSGSIZE for a packet that is too long. With `fd` null, descriptors are dropped
// by the host; else the first is put there and a packet with more is EMSGSIZE.
ssize_t ReceivePacket(int socket, char* buffer, size_t size, UniqueFd* fd);

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_PROTOCOL_CHANNEL_H_
