// Package mtls is how two programs know each other by certificates. What is wrong with these it says in a sentence.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Files are those of one side, as PEM.
type Files struct {
	Cert, Key string // its own certificate
	CA        string // who has signed those of the other side
}

// InDir are the files of a mounted Secret of type kubernetes.io/tls.
func InDir(dir string) Files {
	return Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
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

func (f Files) read(now time.Time) (cert tls.Certificate, cas *x509.CertPool, err error) {
	if f.Cert == "" || f.Key == "" || f.CA == "" {
		return cert, nil, errors.New("mutual TLS takes three files: a certificate, its key, and the CA of the other side")
	}
	if cert, err = tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		return cert, nil, fmt.Errorf("read the certificate %s with its key %s: %w", f.Cert, f.Key, err)
	}
	if until := cert.Leaf.NotAfter; now.After(until) {
		return cert, nil, fmt.Errorf("the certificate %s has expired on %s: make a new one", f.Cert, until.Format(time.DateOnly))
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return cert, nil, fmt.Errorf("read the CA of the other side: %w", err)
	}
	cas = x509.NewCertPool()
	if !cas.AppendCertsFromPEM(pem) {
		return cert, nil, fmt.Errorf("the CA %s has no certificate in it", f.CA)
	}
	return cert, cas, nil
}
