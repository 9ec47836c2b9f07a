package bugreport

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// written are the files of a report: the page, and those of the archive by their names.
func written(t *testing.T, r *Report) (page string, files map[string]string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := Write(dir, r, time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"": folderMode, PageFile: fileMode, ArchiveFile: fileMode} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: mode %v, %v", name, info.Mode(), err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, PageFile))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, ArchiveFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files = map[string]string{}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return string(b), files
		}
		if err != nil {
			t.Fatal(err)
		}
		want := int64(fileMode)
		if h.Typeflag == tar.TypeDir {
			want = int64(folderMode)
		}
		if h.Mode != want {
			t.Errorf("%s in the archive: mode %o", h.Name, h.Mode)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			files[h.Name] = string(content)
		}
	}
}

func TestWrite(t *testing.T) {
	r := &Report{
		Lab: "x", About: [][2]string{{"Profile", "ebpf <1>"}}, Red: []Red{{"node x-worker", "is paused"}},
		Tables: []Table{{Title: "Checks", Head: []string{"CHECK"}, Rows: []Row{{[]string{"dns/pods"}, true}}}},
		Parts: []Part{
			{Section: "Node b", Title: "Routes", Path: "nodes/b/routes.txt", Content: []byte("default via 10.0.0.1\n")},
			{Section: "Node a", Title: "Links", Path: "nodes/a/links.txt", Lacking: "the node is paused"},
			{Section: "Node a", Title: "Services", Path: "nodes/a/services.json", Content: []byte(`[{"name":"demo"}]`), Shown: "NAME\ndemo\n"},
			{Section: "Node a", Title: "Rules", Path: "nodes/a/rules.txt"},
		},
	}
	page, files := written(t, r)
	for _, want := range []string{"ebpf &lt;1&gt;", "is paused", "dns/pods", "default via 10.0.0.1", "the node is paused", "NAME\ndemo", "<p>Nothing.</p>", "2026-01-02 15:04:05 UTC"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(page, "http") && strings.Contains(page, "src=") || strings.Contains(page, "<script") {
		t.Error("the page needs something else to be read")
	}
	for from, to := range map[string]string{"What is wrong": "About", "id=\"wrong\"": "id=\"lacking\"", "Node a": "Node b"} {
		if a, b := strings.LastIndex(page, from), strings.LastIndex(page, to); a < 0 || a > b {
			t.Errorf("%q is not before %q", from, to)
		}
	}
	if empty, ok := files["report-x/nodes/a/rules.txt"]; !ok || empty != "" {
		t.Errorf("an answer of nothing is not there: %q", empty)
	}
	if len(files) != 5 || files["report-x/nodes/b/routes.txt"] != "default via 10.0.0.1\n" || files["report-x/nodes/a/services.json"] != `[{"name":"demo"}]` || files["report-x/"+PageFile] != page {
		t.Errorf("the archive has %q", files)
	}
	if got := files["report-x/lacking.txt"]; got != "Node a: Links: the node is paused\n" {
		t.Errorf("lacking: %q", got)
	}
}

// TestModesOfFilesThatAreThere: a file of an earlier report that others may read is not written into.
func TestModesOfFilesThatAreThere(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{PageFile, ArchiveFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o644); err != nil { //nolint:gosec // which is what this is about
			t.Fatal(err)
		}
	}
	if err := Write(dir, &Report{Lab: "x"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{PageFile, ArchiveFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != fileMode || info.Size() < 10 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestWriteWhereNothingCanBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{Prepare(file), Write(filepath.Join(file, "below"), &Report{}, time.Now())} {
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%v", err)
		}
	}
}

func TestLongPartsAreCutOnThePage(t *testing.T) {
	var b strings.Builder
	for b.Len() < 2*maxShown {
		b.WriteString("a line of a log ü\n")
	}
	text := "the first line\n" + b.String() + "the last line\n"
	for _, tail := range []bool{false, true} {
		page, files := written(t, &Report{Lab: "x", Parts: []Part{{Section: "s", Title: "t", Path: "long.txt", Content: []byte(text), Tail: tail}}})
		if strings.Contains(page, "the first line") == tail || strings.Contains(page, "the last line") != tail || !strings.Contains(page, "64 KiB of") {
			t.Errorf("tail %t: the page has the wrong part, or does not say so", tail)
		}
		if files["report-x/long.txt"] != text {
			t.Error("the archive has not all of it")
		}
	}
}

// TestNoSecrets plants secrets of all kinds in every place of a report, and finds none in what is written. What is written
// without leaving them out is the control: there they are all found.
func TestNoSecrets(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pemKey := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	inside := strings.Split(pemKey, "\n")[1]
	jwt := "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLWEtdG9rZW4"
	quoted, err := json.Marshal(map[string]string{"tls.key": pemKey})
	if err != nil {
		t.Fatal(err)
	}
	planted := map[string]string{ // what is looked for, and the text that it is in
		"Hunter2-of-a-Secret":  "worker: the database said no to Hunter2-of-a-Secret",
		"value/\\\"quoted\\\"": `{"log":"value/\"quoted\""}`,
		"c2Vjb25kLWxpbmU=":     "data: c2Vjb25kLWxpbmU=",
		"second-line":          "b: second-line",
		inside:                 "a: " + strings.ReplaceAll(pemKey, "\n", "\nb: ") + "after",
		inside[:30]:            string(quoted),
		base64.StdEncoding.EncodeToString([]byte(pemKey))[:60]: "client-key-data: " + base64.StdEncoding.EncodeToString([]byte(pemKey)),
		"-----of-a-Secret":        "worker: -----of-a-Secret",
		jwt:                       "Authorization: Bearer " + jwt,
		jwt[40:]:                  "token=" + jwt,
		"abcdef.0123456789abcdef": "kubeadm join --token abcdef.0123456789abcdef",
		"opaque-bearer-value":     "authorization: bearer opaque-bearer-value",
		"mirror-password":         `endpoint: "http://me:mirror-password@10.0.0.1:5000"`,
		"value-of-db-password":    `DB_PASSWORD=value-of-db-password`,
		"kubelet-saw-this":        `err="container &Container{Name:c,Command:[],Args:[],Env:[]EnvVar{EnvVar{Name:X,Value:kubelet-saw-this,ValueFrom:nil,},},Resources:ResourceRequirements{"`,
		"kubelet-saw-that":        `err="container &Container{Name:c,Command:[sh -c kubelet-saw-that],Args:[],WorkingDir:,"`,
	}
	const anotherKey = "-----BEGIN PRIVATE KEY-----\nYW5vdGhlciBrZXk=\n-----END PRIVATE KEY-----\n" // which begins and ends as those that nobody knows
	r := &Report{Lab: "x", Secrets: []string{"Hunter2-of-a-Secret", `value/"quoted"`, "first-line\nsecond-line\n", "true", anotherKey, "-----of-a-Secret"}}
	for _, text := range planted {
		r.About = append(r.About, [2]string{"a", text})
		r.Red = append(r.Red, Red{text, text})
		r.Tables = append(r.Tables, Table{Title: "t", Head: []string{"h"}, Rows: []Row{{Cells: []string{text}}}})
		r.Parts = append(r.Parts, Part{Section: "s", Title: "t", Path: "p", Content: []byte(text), Shown: text, Lacking: text})
	}
	var open bytes.Buffer
	for _, p := range r.Parts {
		open.Write(p.Content)
	}
	page, files := written(t, r)
	all := page
	for _, content := range files {
		all += content
	}
	for secret := range planted {
		if !strings.Contains(open.String(), secret) {
			t.Errorf("%q is not even in what was planted", secret)
		}
		for line := range strings.Lines(all) {
			if strings.Contains(line, secret) || strings.Contains(line, strings.ReplaceAll(secret, "\\\"", "&#34;")) {
				t.Errorf("%q is in %q", secret, line)
			}
		}
	}
	if !strings.Contains(all, "the database said no to "+LeftOut) || !strings.Contains(all, "10.0.0.1:5000") {
		t.Error("more is left out than secrets")
	}
}

// TestWordsStay: what only sounds like a secret is no secret.
func TestWordsStay(t *testing.T) {
	s := newScrubber([]string{"true", "demo"})
	for _, text := range []string{
		`"automountServiceAccountToken": false`, `secretName: wirelab-relay`, `"serviceAccountToken": {"path": "token"}`, "true demo",
		"default via 10.0.0.1 dev eth0", "http://10.96.0.1:443/livez", `"path": "token"`, "the token is read from a file", "report-worker.18bd42ac4c9c3391",
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
	} {
		if got := s.text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
