package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv4"

	"wirelab.dev/wirelab/cmd/nettool/internal/pattern"
	"wirelab.dev/wirelab/verify/probe"
)

// TransferPath takes a body of the pattern and answers with as many bytes of
// it, the identity in the IdentityHeader.
const (
	TransferPath   = "/transfer"
	IdentityHeader = "Nettool-Identity"
)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+TransferPath, s.transfer)
	mux.HandleFunc("/", s.whoami)
	return mux
}

// seen is the identity with what this request adds to it.
func (s *Server) seen(protocol string, client netip.AddrPort) probe.Identity {
	id := s.identity
	id.Protocol = protocol
	id.Client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	id.Time = time.Now().UTC()
	return id
}

func (s *Server) seenHTTP(r *http.Request) probe.Identity {
	client, _ := netip.ParseAddrPort(r.RemoteAddr) // which net/http has from the connection
	id := s.seen("http", client)
	id.Host = r.Host
	return id
}

func (s *Server) whoami(w http.ResponseWriter, r *http.Request) {
	id := s.seenHTTP(r)
	if !wantsJSON(r) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, text(id)) // the client is gone: nobody is left to tell
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(id)
}

func wantsJSON(r *http.Request) bool {
	return r.URL.Query().Get("format") == "json" || strings.Contains(r.Header.Get("Accept"), "application/json")
}

func text(id probe.Identity) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-10s %s\n", name, value)
		}
	}
	line("pod", id.Pod)
	line("namespace", id.Namespace)
	line("node", id.Node)
	line("pod IP", id.PodIP)
	line("client", id.Client.String())
	line("host", id.Host)
	line("time", id.Time.Format(time.RFC3339Nano))
	return b.String()
}

func (s *Server) transfer(w http.ResponseWriter, r *http.Request) {
	id := s.seenHTTP(r)
	n, sum, err := pattern.Sum(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id.Received, id.SHA256 = int(n), sum
	header, err := json.Marshal(id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set(IdentityHeader, string(header))
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.Copy(w, pattern.Reader(n)) // a short answer is the client's to notice
}

// serveUDP answers each datagram with the identity, padded with spaces to the
// datagram's own size, so that a full-size request is a test of both ways.
func (s *Server) serveUDP() error {
	buffer := make([]byte, 1<<16)
	for {
		n, client, asked, err := s.receive(buffer)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		id := s.seen("udp", client)
		id.Received, id.SHA256 = n, pattern.SumOf(buffer[:n])
		answer, err := json.Marshal(id)
		if err != nil {
			return fmt.Errorf("write the identity: %w", err)
		}
		if pad := n - len(answer); pad > 0 {
			answer = append(answer, bytes.Repeat([]byte{' '}, pad)...)
		}
		// A client that cannot be answered must not end the service for others.
		_ = s.reply(answer, client, asked)
	}
}

// receive also returns which of this host's addresses was asked, nil where
// that is not known: the answer has to come from it, or the client takes it
// for somebody else's. Left alone, the kernel answers from the first.
func (s *Server) receive(buffer []byte) (n int, client netip.AddrPort, asked net.IP, err error) {
	if s.udp4 == nil {
		n, client, err = s.udp.ReadFromUDPAddrPort(buffer)
		return n, client, nil, err
	}
	n, control, from, err := s.udp4.ReadFrom(buffer)
	if err != nil {
		return 0, netip.AddrPort{}, nil, err
	}
	if control != nil {
		asked = control.Dst
	}
	return n, from.(*net.UDPAddr).AddrPort(), asked, nil
}

func (s *Server) reply(answer []byte, client netip.AddrPort, asked net.IP) error {
	if asked == nil {
		_, err := s.udp.WriteToUDPAddrPort(answer, client)
		return err
	}
	_, err := s.udp4.WriteTo(answer, &ipv4.ControlMessage{Src: asked}, net.UDPAddrFromAddrPort(client))
	return err
}
