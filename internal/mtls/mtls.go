// Package mtls is how two programs know each other by certificates. What is wrong with these it says in a sentence.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Files are those of one side, as PEM.
type Files struct {
	Cert, Key string // its own certificate
	CA        string // who has signed those of the other side

	// Secret is what they are mounted from, and Mend what to do when they do not fit, as a part of a sentence. Both may be empty.
	Secret, Mend string
}

// InDir are the files of a mounted Secret of type kubernetes.io/tls.
func InDir(dir string) Files {
	return Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
}

// InSecret are the files of a Secret that is mounted at dir, and that the chart makes together with the one of the other side.
func InSecret(dir, secret, other string) Files {
	f := InDir(dir)
	f.Secret = secret
	f.Mend = fmt.Sprintf("delete the Secrets %s and %s, and bring the lab up again (lab up), or upgrade the release (helm upgrade), which makes both anew", secret, other)
	return f
}

// Advise adds to what a server says of a handshake what to do, where certificates are the matter and err does not say it yet.
// The server's log has text only, and all that crypto/tls says of certificates has the word in it. First comes before f.Mend.
func (f Files) Advise(err error, first string) error {
	said := err.Error()
	if f.Mend == "" || !strings.Contains(said, "certificate") || strings.Contains(said, f.Mend) {
		return err
	}
	return fmt.Errorf("%w: %s%s", err, first, f.Mend)
}

// Server reads the files of a server, which takes clients with a certificate of the CA only, and of these, where name is not
// empty, those whose certificate is for name.
func (f Files) Server(now time.Time, name string) (*tls.Config, error) {
	cert, cas, err := f.read(now)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: cas, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	if name != "" {
		c.VerifyConnection = func(s tls.ConnectionState) error { return s.PeerCertificates[0].VerifyHostname(name) }
	}
	return c, nil
}

// Renewed is a server's configuration that reads the files at each connection, so that new ones count from the next one
// on. While something is wrong with them, nobody is answered. Protocols are those above TLS, may be nil.
func (f Files) Renewed(name string, protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := f.Server(time.Now(), name)
			if err == nil {
				c.NextProtos = protocols
			}
			return c, err
		},
	}
}

// Client reads the files of a client, which speaks with a server only whose certificate is of the CA and for name.
func (f Files) Client(now time.Time, name string) (*tls.Config, error) {
	cert, cas, err := f.read(now)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: cas, ServerName: name, MinVersion: tls.VersionTLS12}, nil
}

// read says what is wrong with the files, and what to do.
func (f Files) read(now time.Time) (tls.Certificate, *x509.CertPool, error) {
	if f.Cert == "" || f.Key == "" || f.CA == "" {
		return tls.Certificate{}, nil, errors.New("mutual TLS takes three files: a certificate, its key, and the CA of the other side")
	}
	cert, err := f.certificate(now)
	if err != nil {
		return tls.Certificate{}, nil, f.mended(err)
	}
	cas, err := f.authorities(now)
	if err != nil {
		return tls.Certificate{}, nil, f.mended(err)
	}
	return cert, cas, nil
}

func (f Files) mended(err error) error {
	switch {
	case f.Mend != "":
		return fmt.Errorf("%w: %s", err, f.Mend)
	case errors.Is(err, errExpired):
		return fmt.Errorf("%w: make a new one", err)
	}
	return err
}

// errExpired is the end of what is said of a certificate whose time is over.
var errExpired = errors.New("has expired")

// expired says when that was.
func (f Files) expired(what, file string, until time.Time) error {
	return fmt.Errorf("%s %s %w on %s", what, f.named(file), errExpired, until.Format(time.DateOnly))
}

// named is a file, with the Secret that it is of.
func (f Files) named(file string) string {
	if f.Secret == "" {
		return file
	}
	return fmt.Sprintf("%s of the Secret %s", file, f.Secret)
}

func (f Files) certificate(now time.Time) (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return cert, fmt.Errorf("read the certificate %s with its key %s: %w", f.named(f.Cert), f.Key, err)
	}
	if until := cert.Leaf.NotAfter; now.After(until) {
		return cert, f.expired("the certificate", f.Cert, until)
	}
	return cert, nil
}

// authorities are the CAs of the other side, one of which at least has not expired.
func (f Files) authorities(now time.Time) (*x509.CertPool, error) {
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("read the CA of the other side, %s: %w", f.named(f.CA), err)
	}
	pool := x509.NewCertPool()
	var last time.Time
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the CA of the other side, %s: %w", f.named(f.CA), err)
		}
		pool.AddCert(ca)
		if ca.NotAfter.After(last) {
			last = ca.NotAfter
		}
	}
	switch {
	case last.IsZero():
		return nil, fmt.Errorf("the CA %s has no certificate in it", f.named(f.CA))
	case now.After(last):
		return nil, f.expired("the CA", f.CA, last)
	}
	return pool, nil
}
