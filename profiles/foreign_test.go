package profiles

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestForeignFilesAreNotQuoted: who may run lab with more rights than their own must not read others' files by its errors.
func TestForeignFilesAreNotQuoted(t *testing.T) {
	const secret = "S3cr3t"
	for name, content := range map[string]string{
		"passwords":       "root:$6$" + secret + ":19000:0:99999:7:::\nbin:*:" + secret + ":0:99999:7:::\n",
		"settings":        "password: " + secret + "\n" + secret + ": x\n",
		"another kind":    "apiVersion: v1\nkind: Secret\nmetadata: {name: " + secret + "}\ndata: {" + secret + ": " + secret + "}\n",
		"an alias":        "a: *" + secret + "\n",
		"a directive":     "%" + secret + " x\n---\na: b\n",
		"a tab":           "a:\n\t" + secret + ": b\n",
		"a list":          "- " + secret + "\n",
		"a word":          secret + "\n",
		"a tag":           "!!" + secret + " x\n",
		"an escape":       "a: \"\\" + secret + "\"\n",
		"two documents":   "a: b\n---\n" + secret + ": x\n",
		"twice":           secret + ": 1\n" + secret + ": 2\n",
		"a private key":   "-----BEGIN OPENSSH PRIVATE KEY-----\n" + secret + "\n-----END OPENSSH PRIVATE KEY-----\n",
		"bytes":           "\x7fELF\x01" + secret + "\x00\xff",
		"a word in kind":  "kind: " + secret + "\napiVersion: " + secret + "\n",
		"a shell's words": "export TOKEN=" + secret + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			foreign, mine := filepath.Join(dir, "foreign"), filepath.Join(dir, "mine.yaml")
			for file, content := range map[string]string{foreign: content, mine: strings.Replace(head, "extends: kubeproxy", "extends: "+foreign, 1)} {
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, ref := range []string{foreign, mine} {
				if _, err := Load(ref, Options{}); err == nil || strings.Contains(err.Error(), secret) {
					t.Errorf("%s: %v", filepath.Base(ref), err)
				}
			}
		})
	}
}

// TestSlipsInTheHeadAreStillNamed: a profile with a mistake at its head is a profile.
func TestSlipsInTheHeadAreStillNamed(t *testing.T) {
	for _, tt := range []struct{ content, say string }{
		{"apiVersion: wirelab.dev/v1\nkind: Profile\nmetadata: {name: x}\n", "wirelab.dev/v1alpha1"},
		{"kind: Profile\nmetadata: {name: x}\n", "apiVersion"},
		{"apiVersion: wirelab.dev/v1alpha1\nkind: Profil\nmetadata: {name: x}\n", `"Profil"`},
		{"apiVersion: wirelab.dev/v1alpha1\nkind: Profile\nmetadata:\n\tname: x\n", "tabs"},
	} {
		if _, err := Parse("mine.yaml", []byte(tt.content), Options{}); err == nil || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%q: %v, want %q", tt.content, err, tt.say)
		}
	}
}

func TestEmptyExtends(t *testing.T) {
	for _, empty := range []string{`""`, `''`, `" "`} {
		_, err := Parse("mine.yaml", []byte(strings.Replace(head, "extends: kubeproxy", "extends: "+empty, 1)), Options{})
		if err == nil || !strings.Contains(err.Error(), "mine.yaml:4: extends: is empty") {
			t.Errorf("extends: %s: %v", empty, err)
		}
	}
}

// TestManyMistakesAreAFewLines: a file of nonsense takes no longer to refuse than to read.
func TestManyMistakesAreAFewLines(t *testing.T) {
	many := func(format string) string {
		var b strings.Builder
		for i := range 50_000 {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, body := range map[string]string{
		"unknown keys":  many("unknown%d: x\n"),
		"bad items":     "verify:\n  skip:\n" + many("  - a b%d\n"),
		"good items":    "verify:\n  skip:\n" + many("  - a%d\n"),
		"mirrors":       "cluster:\n  registryMirrors:\n" + many("  - {host: h%d, endpoint: 'http://a.b'}\n"),
		"in a section":  "network:\n  bpf:\n" + many("    masq%d: true\n"),
		"one long word": strings.Repeat("x", 500_000) + ": 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse("mine.yaml", []byte(head+body), Options{})
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if n := len(Problems(err)); n == 0 || n > 2*maxProblems {
				t.Errorf("%d problems", n)
			}
			if err != nil && len(err.Error()) > 100_000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestSetFormsThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ set, say, never string }{
		{"network.mtu.=1", "network.mtu.", ""},
		{"network..mtu=1", "unknown key", ""},
		{".network.mtu=1", "unknown key", ""},
		{"network.devices={eth0,eth1}", "eth0,eth1", ""},
		{"network.devices=[eth0,eth1", "not how a list is written", ""},
		{"network.devices=eth0]", "not how a list is written", ""},
		{"network.devices=", "write []", ""},
		{"cluster.image=", "its value is empty", ""},
		// A suggestion that would be refused in its turn is none.
		{"nam=x", "unknown key", "metadata.name"},
		{"extend=x", "unknown key", "mean extends"},
		{"netwrok=x", "unknown key", "mean network?"},
		{"metdata.name=x", "", "mean metadata"},
		{"hots=x", "unknown key", "[]"},
		{"netwrok.mtu=1400", "did you mean network.mtu?", ""},
		{"bpf.masquerade=true", "did you mean network.bpf.masquerade?", ""},
	} {
		_, err := Load("kubeproxy", Options{Set: []string{tt.set}})
		if err == nil || !strings.Contains(err.Error(), tt.say) || tt.never != "" && strings.Contains(err.Error(), tt.never) {
			t.Errorf("--set %s: %v, want %q and not %q", tt.set, err, tt.say, tt.never)
		}
	}
	if p, err := Load("kubeproxy", Options{Set: []string{"network.devices=[eth0, eth1]", `cluster.image=""`}}); err != nil || len(p.Network.Devices) != 2 {
		t.Errorf("%v", err)
	}
}

func TestExplainByTheEndOfAPath(t *testing.T) {
	for key, want := range map[string]string{"bpf.masquerade": "network.bpf.masquerade", "debug.enabled": "network.debug.enabled", "registryMirrors.host": "cluster.registryMirrors[].host"} {
		if doc, err := Explain(key); err != nil || doc.Key != want {
			t.Errorf("Explain(%q): %q, %v; want %q", key, doc.Key, err, want)
		}
	}
	if doc, err := Explain("k.masquerade"); err == nil {
		t.Errorf("a part of a name will do: %+v", doc)
	}
}
