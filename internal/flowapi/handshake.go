package flowapi

import (
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// observed are credentials that tell of handshakes that went wrong, the clients too.
type observed struct {
	credentials.TransportCredentials
	refused func(error)
}

func (o observed) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, nil, fmt.Errorf("a connection by %s: only TCP is served", c.LocalAddr().Network())
	}
	shaking := &handshake{TCPConn: tcp}
	conn, info, err := o.TransportCredentials.ServerHandshake(shaking)
	if err == nil {
		shaking.done = true
	} else if o.refused != nil {
		o.refused(fmt.Errorf("refuse %s: %w", c.RemoteAddr(), err))
	}
	return conn, info, err
}

// handshake is a connection that, where it is closed before the handshake is done, has the other side read why. In TLS 1.3 a client
// has begun to send by then, and closing with that unread would reset the connection, before the reason or in place of it.
type handshake struct {
	*net.TCPConn
	done bool // set before anybody else has the connection
}

// How long, and for how many bytes, a client that is refused is listened to.
const (
	refusedFor   = time.Second
	refusedBytes = 64 << 10
)

func (h *handshake) Close() error {
	if !h.done && h.CloseWrite() == nil && h.SetReadDeadline(time.Now().Add(refusedFor)) == nil {
		_, _ = io.CopyN(io.Discard, h.TCPConn, refusedBytes) // until the client has closed it, if it does
	}
	return h.TCPConn.Close()
}
