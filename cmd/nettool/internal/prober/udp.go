package prober

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/cmd/nettool/internal/pattern"
	"wirelab.dev/wirelab/verify/probe"
)

func askUDP(ctx context.Context, spec probe.UDP) (*probe.UDPResult, error) {
	size := max(spec.Size, probe.MinUDP)
	payload, err := io.ReadAll(pattern.Reader(int64(size)))
	if err != nil {
		return nil, fmt.Errorf("make the payload: %w", err)
	}
	dialer := net.Dialer{}
	if spec.Source.IsValid() {
		dialer.LocalAddr = &net.UDPAddr{IP: spec.Source.AsSlice()}
	}
	if spec.DF {
		dialer.Control = option(setDF)
	}
	conn, err := dialer.DialContext(ctx, "udp", spec.Address.String())
	if err != nil {
		return nil, failf("%w", err)
	}
	defer conn.Close()
	defer until(ctx, conn)()
	result := &probe.UDPResult{Local: addrPort(conn.LocalAddr())}
	buffer := make([]byte, 1<<16)
	for range max(spec.Count, 1) {
		if _, err := conn.Write(payload); err != nil {
			return result, sendFailure(err, size)
		}
		result.Sent++
		n, err := conn.Read(buffer)
		if err != nil {
			return result, failf("datagram %d of %d bytes was not answered: %w", result.Sent, size, explainRead(ctx, err))
		}
		id, err := takeIdentity(buffer[:n])
		if err != nil {
			return result, err
		}
		if want := pattern.SumOf(payload); id.Received != size || id.SHA256 != want {
			return result, failf("%d bytes were sent, %d arrived with checksum %.12s, not %.12s", size, id.Received, id.SHA256, want)
		}
		if n != size {
			return result, failf("an answer of %d bytes was to come back, %d did", size, n)
		}
		result.Received, result.Identity, result.Size = result.Received+1, id, n
	}
	return result, nil
}

func sendFailure(err error, size int) error {
	if errors.Is(err, unix.EMSGSIZE) {
		return failf("a payload of %d bytes does not fit the MTU of the link or path: %w", size, err)
	}
	return failf("send: %w", err)
}

func takeIdentity(answer []byte) (*probe.Identity, error) {
	id := &probe.Identity{}
	if err := json.Unmarshal(bytes.TrimRight(answer, " "), id); err != nil || !id.Client.IsValid() {
		return nil, failf("the answer is not from nettool: %.200q", answer)
	}
	return id, nil
}
