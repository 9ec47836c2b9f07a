package flowapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"wirelab.dev/wirelab/internal/api"
)

// authority signs certificates.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, "ca", time.Now().Add(time.Hour))
	return a
}

// sign writes NAME.crt and NAME.key.
func (a *authority) sign(t *testing.T, name string, until time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: name == "ca",
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: pkcs}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) pair(t *testing.T, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.file(name+".crt"), a.file(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// TestMutualTLS: a client whose certificate the CA has signed is served; one without, one of another CA, one that has
// expired and one that speaks without TLS are not, and the first is served on.
func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	ours.sign(t, "server", time.Now().Add(time.Hour))
	ours.sign(t, "client", time.Now().Add(time.Hour))
	ours.sign(t, "old", time.Now().Add(-time.Minute))
	theirs.sign(t, "client", time.Now().Add(time.Hour))
	secure, err := TLS{Cert: ours.file("server.crt"), Key: ours.file("server.key"), ClientCA: ours.file("ca.crt")}.Config(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	addr := serving(t, &fakeSource{lines: []api.FlowLine{record(1)}}, secure, time.Minute)
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	ask := func(c credentials.TransportCredentials) error {
		_, err := observerpb.NewObserverClient(connect(t, addr, c)).ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		return err
	}
	with := func(certs ...tls.Certificate) credentials.TransportCredentials {
		return credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS12})
	}
	for name, c := range map[string]credentials.TransportCredentials{
		"without a certificate": with(), "of another CA": with(theirs.pair(t, "client")), "expired": with(ours.pair(t, "old")), "without TLS": insecure.NewCredentials(),
	} {
		if ask(c) == nil {
			t.Errorf("a client %s is served", name)
		}
		if err := ask(with(ours.pair(t, "client"))); err != nil {
			t.Errorf("after a client %s the right one is not served: %v", name, err)
		}
	}
}

func TestTLSFiles(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	a.sign(t, "server", time.Now().Add(time.Hour))
	a.sign(t, "old", time.Now().Add(-time.Hour))
	other.sign(t, "server", time.Now().Add(time.Hour))
	good := TLS{Cert: a.file("server.crt"), Key: a.file("server.key"), ClientCA: a.file("ca.crt")}
	for want, change := range map[string]func(*TLS){
		"takes three files":          func(f *TLS) { f.Key = "" },
		"no such file":               func(f *TLS) { f.Cert = "/nowhere" },
		"private key does not match": func(f *TLS) { f.Key = other.file("server.key") },
		"has expired on":             func(f *TLS) { f.Cert, f.Key = a.file("old.crt"), a.file("old.key") },
		"read the CA of clients":     func(f *TLS) { f.ClientCA = "/nowhere" },
		"has no certificate in it":   func(f *TLS) { f.ClientCA = a.file("server.key") },
	} {
		f := good
		change(&f)
		if _, err := f.Config(time.Now()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want something with %q", err, want)
		}
	}
	if c, err := (TLS{}).Config(time.Now()); c != nil || err != nil {
		t.Errorf("without files: %v, %v", c, err)
	}
}
