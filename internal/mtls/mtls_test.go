package mtls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/internal/mtls/mtlstest"
)

func pair(a *mtlstest.Authority, name string) Files {
	return Files{Cert: a.File(name + ".crt"), Key: a.File(name + ".key"), CA: a.File("ca.crt")}
}

// speaking says why a client and a server do not take each other; nil when they do.
func speaking(t *testing.T, server *tls.Config, client *tls.Config) error {
	t.Helper()
	return errors.Join(speak(t, server, client))
}

// served says why a server does not serve a client, as the server sees it.
func served(t *testing.T, server *tls.Config, client *tls.Config) error {
	t.Helper()
	err, _ := speak(t, server, client)
	return err
}

// speak is what both have to say of it.
func speak(t *testing.T, server *tls.Config, client *tls.Config) (ofServer, ofClient error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			s := tls.Server(c, server)
			if err = s.Handshake(); err == nil {
				_, err = s.Write([]byte("x"))
			}
		}
		served <- err
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		defer c.Close()
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	return <-served, err
}

// TestPeers: both sides take the other's certificate only if it is of the CA, for the name, and has not expired. Control: the
// right ones take each other, before and after each refusal.
func TestPeers(t *testing.T) {
	ours, theirs := mtlstest.New(t), mtlstest.New(t)
	soon := time.Now().Add(time.Hour)
	ours.Sign(t, "server", "server.test", soon)
	ours.Sign(t, "client", "client.test", soon)
	ours.Sign(t, "old", "client.test", time.Now().Add(-time.Minute))
	theirs.Sign(t, "client", "client.test", soon)
	theirs.Sign(t, "server", "server.test", soon)
	before := time.Now().Add(-2 * time.Minute)
	client := func(f Files, name string) *tls.Config {
		c, err := f.Client(before, name)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	foreign := pair(theirs, "client")
	foreign.CA = ours.File("ca.crt")
	good := client(pair(ours, "client"), "server.test")
	nobody := good.Clone()
	nobody.Certificates = nil
	server := pair(ours, "server").Renewed("client.test", nil)
	for want, c := range map[string]*tls.Config{
		"didn't provide a certificate":              nobody,
		"signed by unknown authority":               client(foreign, "server.test"),
		"has expired":                               client(pair(ours, "old"), "server.test"),
		"is valid for server.test, not client.test": client(pair(ours, "server"), "server.test"),
		"is valid for server.test, not other.test":  client(pair(ours, "client"), "other.test"),
	} {
		if err := speaking(t, server, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
		if err := speaking(t, server, good); err != nil {
			t.Errorf("after that the right client is refused: %v", err)
		}
	}
	imposter := pair(theirs, "server")
	imposter.CA = ours.File("ca.crt")
	if err := speaking(t, imposter.Renewed("client.test", nil), good); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a server of another CA: %v", err)
	}
}

// TestRenewed: what the files are counts at the next connection.
func TestRenewed(t *testing.T) {
	a := mtlstest.New(t)
	a.Sign(t, "client", "client.test", time.Now().Add(time.Hour))
	client, err := pair(a, "client").Client(time.Now(), "server.test")
	if err != nil {
		t.Fatal(err)
	}
	server := pair(a, "server").Renewed("client.test", nil)
	if err := speaking(t, server, client); err == nil || !strings.Contains(err.Error(), "server.crt: no such file") {
		t.Errorf("without files: %v", err)
	}
	a.Sign(t, "server", "server.test", time.Now().Add(-time.Minute))
	if err := speaking(t, server, client); err == nil || !strings.Contains(err.Error(), "has expired on") {
		t.Errorf("with one that has expired: %v", err)
	}
	a.Sign(t, "server", "server.test", time.Now().Add(time.Hour))
	if err := speaking(t, server, client); err != nil {
		t.Errorf("with a new one: %v", err)
	}
	if err := os.Remove(a.File("ca.crt")); err != nil {
		t.Fatal(err)
	}
	if err := speaking(t, server, client); err == nil || !strings.Contains(err.Error(), "read the CA of the other side") {
		t.Errorf("without the CA: %v", err)
	}
}

func TestFiles(t *testing.T) {
	ago := time.Now().UTC().Add(-time.Hour)
	a, other, over := mtlstest.New(t), mtlstest.New(t), mtlstest.NewUntil(t, ago)
	a.Sign(t, "tls", "x", time.Now().Add(time.Hour))
	a.Sign(t, "old", "x", ago)
	other.Sign(t, "tls", "x", time.Now().Add(time.Hour))
	good := InDir(a.Dir)
	for want, change := range map[string]func(*Files){
		"takes three files":             func(f *Files) { f.Key = "" },
		"no such file":                  func(f *Files) { f.Cert = "/nowhere" },
		"private key does not match":    func(f *Files) { f.Key = other.File("tls.key") },
		"old.crt has expired on":        func(f *Files) { f.Cert, f.Key = a.File("old.crt"), a.File("old.key") },
		"read the CA of the other side": func(f *Files) { f.CA = "/nowhere" },
		"has no certificate in it":      func(f *Files) { f.CA = a.File("tls.key") },
		"ca.crt has expired on":         func(f *Files) { f.CA = over.File("ca.crt") },
	} {
		f := good
		change(&f)
		_, err := f.Server(time.Now(), "")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want something with %q", err, want)
			continue
		}
		if strings.Contains(want, "expired") && !strings.HasSuffix(err.Error(), ago.Format(time.DateOnly)+": make a new one") {
			t.Errorf("%v, want it to say what to do", err)
		}
		if want == "takes three files" {
			continue // a Secret's are always three
		}
		ofSecret := InSecret(a.Dir, "own-secret", "others-secret")
		change(&ofSecret)
		_, err = ofSecret.Client(time.Now(), "x")
		if err == nil {
			t.Errorf("nothing is said, want something with %q", want)
			continue
		}
		said, mended := strings.CutSuffix(err.Error(), ": "+ofSecret.Mend)
		const secret = " of the Secret own-secret"
		if !mended || !strings.Contains(said, secret) || !strings.Contains(strings.Replace(said, secret, "", 1), want) || strings.Contains(said, "make a new one") {
			t.Errorf("%v, want something with %q, the Secret, and what to do", err, want)
		}
	}
	if mend := InSecret(a.Dir, "own-secret", "others-secret").Mend; !strings.Contains(mend, "delete the Secrets own-secret and others-secret") || !strings.Contains(mend, "lab up") || !strings.Contains(mend, "helm upgrade") {
		t.Errorf("what to do is: %s", mend)
	}
	if _, err := good.Server(time.Now(), ""); err != nil {
		t.Error(err)
	}
}

// TestAdvise: of each way in which certificates do not fit, what a server says leads to what to do, once. Control: what is no
// matter of certificates does not.
func TestAdvise(t *testing.T) {
	ours, theirs := mtlstest.New(t), mtlstest.New(t)
	soon, before := time.Now().Add(time.Hour), time.Now().Add(-2*time.Minute)
	ours.Sign(t, "tls", "server.test", soon)
	ours.Sign(t, "client", "client.test", soon)
	ours.Sign(t, "old", "client.test", time.Now().Add(-time.Minute))
	theirs.Sign(t, "client", "client.test", soon)
	files := InSecret(ours.Dir, "own-secret", "others-secret")
	missing := InSecret(t.TempDir(), "own-secret", "others-secret")
	client := func(f Files) *tls.Config {
		c, err := f.Client(before, "server.test")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	good := client(pair(ours, "client"))
	foreign := pair(theirs, "client")
	foreign.CA = ours.File("ca.crt")
	trustless := pair(ours, "client") // it does not know our CA
	trustless.CA = theirs.File("ca.crt")
	nobody := good.Clone()
	nobody.Certificates = nil
	for name, try := range map[string]struct {
		files  Files
		client *tls.Config
	}{
		"no certificate": {files, nobody}, "another CA's": {files, client(foreign)}, "expired": {files, client(pair(ours, "old"))},
		"a client that refuses the server": {files, client(trustless)}, "a server without files": {missing, good},
	} {
		err := served(t, try.files.Renewed("client.test", nil), try.client)
		if err == nil {
			t.Errorf("%s: it is served", name)
			continue
		}
		said := try.files.Advise(err, "if so, ").Error()
		if strings.Count(said, files.Mend) != 1 || !strings.HasPrefix(said, err.Error()) || strings.Contains(said, "\n") {
			t.Errorf("%s: said is %q", name, said)
		}
		if said := pair(ours, "tls").Advise(err, "if so, "); said != err { //nolint:errorlint // it is to be the same
			t.Errorf("%s: without anything to do, said is %q", name, said)
		}
	}
	if err := served(t, files.Renewed("client.test", nil), good); err != nil {
		t.Errorf("the right client is not served: %v", err)
	}
	for _, err := range []error{io.EOF, errors.New("tls: first record does not look like a TLS handshake")} {
		if said := files.Advise(err, "if so, "); said != err { //nolint:errorlint // it is to be the same
			t.Errorf("of %v is said %v", err, said)
		}
	}
}
