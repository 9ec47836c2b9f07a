package datapath_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"wirelab.dev/wirelab/internal/netnstest"
)

// talkerEnv makes this test binary a talker: its value is a udpSocket in JSON.
const talkerEnv = "WIRELAB_TEST_TALKER"

// udpSocket is one that a process holds for as long as a test wants: what a program keeps of a socket, or of
// its port, is seen only by asking more than once.
type udpSocket struct {
	IPv6    bool           // it has IPv4 addresses as mapped ones
	Bind    netip.AddrPort // the zero value: to nothing
	Connect netip.AddrPort // the zero value: to nobody
}

// talk is what a talker is told to do, over its socket.
type talk struct {
	To    netip.AddrPort // the zero value: to whom it is connected
	Count int            // of datagrams, each of which wants an answer
	Batch bool           // sends all of them by one sendmmsg
}

func (s udpSocket) addr(a netip.AddrPort) syscall.Sockaddr {
	if s.IPv6 {
		return &syscall.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &syscall.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

func (s udpSocket) open() (*net.UDPConn, error) {
	family := syscall.AF_INET
	if s.IPv6 {
		family = syscall.AF_INET6
	}
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if s.Bind.IsValid() {
		if err := syscall.Bind(fd, s.addr(s.Bind)); err != nil {
			return nil, fmt.Errorf("bind: %w", err)
		}
	}
	if s.Connect.IsValid() {
		if err := syscall.Connect(fd, s.addr(s.Connect)); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// runTalker does what it is told, line by line, until there are no more.
func (s udpSocket) runTalker(in io.Reader, out io.Writer) error {
	conn, err := s.open()
	if err != nil {
		return json.NewEncoder(out).Encode(err.Error())
	}
	defer conn.Close()
	if err := json.NewEncoder(out).Encode(""); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var t talk
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return err
		}
		if err := json.NewEncoder(out).Encode(t.over(conn)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (t talk) over(conn *net.UDPConn) (all []told) {
	if t.Batch {
		batch := make([]ipv4.Message, t.Count)
		for i := range batch {
			batch[i] = ipv4.Message{Buffers: [][]byte{[]byte("?")}, Addr: net.UDPAddrFromAddrPort(t.To)}
		}
		if n, err := ipv4.NewPacketConn(conn).WriteBatch(batch, 0); err != nil || n != len(batch) {
			return []told{{Err: fmt.Sprintf("sent %d of %d: %v", n, len(batch), err)}}
		}
	}
	for range t.Count {
		var err error
		switch {
		case t.Batch:
		case t.To.IsValid():
			_, err = conn.WriteToUDPAddrPort([]byte("?"), t.To)
		default:
			_, err = conn.Write([]byte("?"))
		}
		if err != nil {
			all = append(all, told{Err: err.Error()})
			continue
		}
		all = append(all, hear(conn))
	}
	return all
}

// hear waits for one answer.
func hear(conn *net.UDPConn) (t told) {
	buf := make([]byte, 64)
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return told{Err: err.Error()}
	}
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Err = err.Error()
	}
	t.Answer, t.Peer = string(buf[:n]), from.String()
	return t
}

// talker is a process with one UDP socket.
type talker struct {
	udpSocket
	t   *testing.T
	in  io.WriteCloser
	out *json.Decoder
}

// talker starts one in the node's cgroup and the namespace given. The error is its socket's.
func (n *node) talker(ns *netnstest.NS, s udpSocket) (*talker, error) {
	n.t.Helper()
	spec, err := json.Marshal(s)
	must(n.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), talkerEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(n.cgroup.Fd())}
	in, err := cmd.StdinPipe()
	must(n.t, err)
	out, err := cmd.StdoutPipe()
	must(n.t, err)
	ns.Do(func() { err = cmd.Start() })
	must(n.t, err)
	k := &talker{udpSocket: s, t: n.t, in: in, out: json.NewDecoder(out)}
	n.t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			n.t.Errorf("a talker: %v", err)
		}
	})
	var problem string
	must(n.t, k.out.Decode(&problem))
	if problem != "" {
		return k, fmt.Errorf("%s", problem)
	}
	return k, nil
}

// holds is talker for a socket that can be opened.
func (n *node) holds(ns *netnstest.NS, s udpSocket) *talker {
	n.t.Helper()
	k, err := n.talker(ns, s)
	must(n.t, err)
	return k
}

func (k *talker) say(t talk) (all []told) {
	k.t.Helper()
	line, err := json.Marshal(t)
	must(k.t, err)
	_, err = k.in.Write(append(line, '\n'))
	must(k.t, err)
	must(k.t, k.out.Decode(&all))
	return all
}

// asks sends to an address, and wants each answer to come from there and all by one server, whose name it returns.
func (k *talker) asks(t talk) string {
	k.t.Helper()
	all := k.say(t)
	by := map[string]int{}
	asked := t.To
	if !asked.IsValid() {
		asked = k.Connect
	}
	for _, got := range all {
		by[got.Answer+got.Err]++
		if got.Err == "" && unmapped(got.Peer) != asked.String() {
			k.t.Errorf("%s: an answer to what was sent to %s comes from %s", k, asked, got.Peer)
		}
	}
	if len(by) != 1 || all[0].Err != "" {
		k.t.Errorf("%d datagrams to %s were answered by %v, want one", t.Count, t.To, by)
	}
	return all[0].Answer
}

// close ends the process, and its socket.
func (k *talker) close() {
	k.t.Helper()
	must(k.t, k.in.Close())
	if err := k.out.Decode(new(any)); err != io.EOF {
		k.t.Errorf("a talker that has nothing to say any more says %v", err)
	}
}

func (s udpSocket) String() string {
	words := []string{"IPv4"}
	if s.IPv6 {
		words[0] = "IPv6"
	}
	if s.Bind.IsValid() {
		words = append(words, "bound")
	}
	if s.Connect.IsValid() {
		words = append(words, "connected")
	}
	return strings.Join(words, ", ")
}
