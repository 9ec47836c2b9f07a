package api

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serveOnce answers one connection on a new socket with handle and returns
// the socket's path.
func serveOnce(t *testing.T, handle func(*net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		handle(conn)
	}()
	return path
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return c
}

func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestCallCNICarriesRequestAndNamespace(t *testing.T) {
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	want := CNIRequest{
		Command: CNIAdd, ContainerID: "c1", IfName: "eth0", Namespace: "default", Pod: "demo",
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")},
		Valid: []CNIAttachment{{ContainerID: "c2", IfName: "eth0"}},
	}
	reply := CNIReply{Endpoint: &CNIEndpoint{Endpoint: Endpoint{Addr: netip.MustParseAddr("10.0.0.2"), MTU: 1500, HostIf: "lxc0", PodMAC: MAC{2, 5: 1}}}}
	socket := serveOnce(t, func(conn *net.UnixConn) {
		req, fd, err := ReceiveCNI(conn, time.Now().Add(5*time.Second))
		if err != nil {
			t.Error(err)
			return
		}
		defer fd.Close()
		if !reflect.DeepEqual(req, want) {
			t.Errorf("got request %+v, want %+v", req, want)
		}
		if inode(t, fd) != inode(t, netns) {
			t.Error("another file came along than the one sent")
		}
		if err := ReplyCNI(conn, reply); err != nil {
			t.Error(err)
		}
	})
	got, err := CallCNI(ctx(t), socket, want, netns)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, reply) {
		t.Errorf("got reply %+v, want %+v", got, reply)
	}
}

func TestCallCNIOfALongRequest(t *testing.T) {
	var req CNIRequest
	for range 5000 { // about 500 KB, more than a socket buffer
		req.Valid = append(req.Valid, CNIAttachment{ContainerID: strings.Repeat("a", 64), IfName: "eth0"})
	}
	socket := serveOnce(t, func(conn *net.UnixConn) {
		got, fd, err := ReceiveCNI(conn, time.Now().Add(5*time.Second))
		if err != nil || fd != nil || len(got.Valid) != len(req.Valid) {
			t.Errorf("got %d attachments, descriptor %v, %v", len(got.Valid), fd, err)
		}
		if err := ReplyCNI(conn, CNIReply{Error: &CNIError{Code: CNITryAgain, Msg: "no", Details: "why"}}); err != nil {
			t.Error(err)
		}
	})
	reply, err := CallCNI(ctx(t), socket, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if reply.Error == nil || reply.Error.Error() != "no: why" {
		t.Errorf("got %+v, want the error", reply)
	}
}

func TestCallCNIWithoutAgent(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // what a killed agent leaves
	l.Close()
	for _, socket := range []string{filepath.Join(dir, "none"), stale} {
		if _, err := CallCNI(ctx(t), socket, CNIRequest{Command: CNIStatus}, nil); !errors.Is(err, ErrAgentDown) {
			t.Errorf("%s: %v, want ErrAgentDown", socket, err)
		}
	}
}

func TestCallCNIGivesUpAtTheDeadline(t *testing.T) {
	hold := make(chan struct{})
	socket := serveOnce(t, func(*net.UnixConn) { <-hold })
	defer close(hold)
	c, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := CallCNI(c, socket, CNIRequest{Command: CNIStatus}, nil)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a deadline error", err)
	}
}

func TestReceiveCNIRefuses(t *testing.T) {
	two := syscall.UnixRights(0, 1)
	for _, tc := range []struct {
		name, message, want string
		rights              []byte
	}{
		{"two descriptors", "\x01{}", "2 descriptors", two},
		{"another version", "\x02{}", "version 1", nil},
		{"no JSON", "\x01hello", "invalid character", nil},
		{"an early end", "\x01{", "unexpected EOF", nil},
		{"too much", "\x01\"" + strings.Repeat("a", maxCNIMessage), "unexpected EOF", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			result := make(chan error, 1)
			socket := serveOnce(t, func(conn *net.UnixConn) {
				_, fd, err := ReceiveCNI(conn, time.Now().Add(5*time.Second))
				if fd != nil {
					t.Error("a descriptor came with the error")
				}
				result <- err
			})
			conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := conn.WriteMsgUnix([]byte(tc.message[:1]), tc.rights, nil); err != nil {
				t.Fatal(err)
			}
			conn.Write([]byte(tc.message[1:])) //nolint:errcheck // refused half-way is fine
			conn.Close()
			if err := <-result; err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestHostIfName(t *testing.T) {
	// printf '%s' c1/eth0 | sha256sum
	if got := HostIfName("c1", "eth0"); got != "lxcd72e032f" {
		t.Errorf("got %s", got)
	}
	if HostIfName("c1", "eth0") == HostIfName("c1", "eth1") || HostIfName("c1", "eth0") == HostIfName("c2", "eth0") {
		t.Error("two interfaces got one name")
	}
}
