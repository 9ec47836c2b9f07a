package flowapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// TLS are the files by which server and clients know each other.
type TLS struct {
	Cert, Key string // the server's
	ClientCA  string // who has signed clients' certificates
}

// Config reads the files; nil when none is named. A client needs a certificate of the CA.
func (t TLS) Config(now time.Time) (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	if t.Cert == "" || t.Key == "" || t.ClientCA == "" {
		return nil, errors.New("mutual TLS takes three files: the server's certificate, its key, and the CA of clients")
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate %s with its key %s: %w", t.Cert, t.Key, err)
	}
	if until := cert.Leaf.NotAfter; now.After(until) {
		return nil, fmt.Errorf("the server's certificate %s has expired on %s: make a new one", t.Cert, until.Format(time.DateOnly))
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read the CA of clients: %w", err)
	}
	cas := x509.NewCertPool()
	if !cas.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the CA of clients %s has no certificate in it", t.ClientCA)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: cas, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}, nil
}
