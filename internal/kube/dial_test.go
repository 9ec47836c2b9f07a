package kube

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestDialSaysWhyTheCommandFailed: whether it fails while somebody reads or writes.
func TestDialSaysWhyTheCommandFailed(t *testing.T) {
	why := errors.New("error dialing backend")
	for name, use := range map[string]func(net.Conn) error{
		"read":  func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"write": func(c net.Conn) error { _, err := c.Write([]byte("GET")); return err },
	} {
		near, far := net.Pipe()
		conn := &execConn{Conn: near, cancel: func() {}}
		time.AfterFunc(10*time.Millisecond, func() {
			conn.fail(why)
			far.Close()
		})
		if err := use(conn); !errors.Is(err, why) {
			t.Errorf("%s: %v, want %v", name, err, why)
		}
		conn.fail(nil)
		if err := use(conn); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s of one that ended well: %v", name, err)
		}
		conn.Close()
	}
}
