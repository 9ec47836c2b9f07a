// Package platforms tests the programs for other machines where there are none: those for Linux on arm64 under QEMU, and lab for macOS
// by reading it.
package platforms

import (
	"bytes"
	"debug/macho"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// emulator is what the programs run under: nothing on arm64, and elsewhere QEMU, without which the test is skipped by hand and
// fails under make.
func emulator(t *testing.T) []string {
	t.Helper()
	if runtime.GOARCH == "arm64" {
		return nil
	}
	for _, name := range []string{"qemu-aarch64", "qemu-aarch64-static"} {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}
		}
	}
	if os.Getenv("WIRELAB_TEST_STRICT") == "1" {
		t.Fatal("programs for arm64 run under qemu-aarch64: apt-get install qemu-user")
	}
	t.Skip("programs for arm64 run under qemu-aarch64, which is not here: apt-get install qemu-user")
	return nil
}

// gotool runs go for a system on arm64, from the top of the repository.
func gotool(t *testing.T, system string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestPrograms compiles every program and has it say what it is.
func TestPrograms(t *testing.T) {
	qemu := emulator(t)
	dir := t.TempDir()
	gotool(t, "linux", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/...")
	for _, c := range []struct {
		program string
		args    []string
		env     string
		want    string
	}{
		{"lab", []string{"--help"}, "", "lab makes Kubernetes clusters"},
		{"lab", []string{"version", "-o", "json"}, "", `"platform": "linux/arm64"`},
		{"lab", []string{"profile", "show", "ebpf"}, "", "kind: Profile"},
		{"agent", []string{"--help"}, "", "wirelab-agent"},
		{"operator", []string{"--help"}, "", "wirelab-operator"},
		{"relay", []string{"--help"}, "", "wirelab-relay"},
		{"nettool", []string{"--help"}, "", "nettool"},
		{"cni", nil, "CNI_COMMAND=VERSION", `"supportedVersions"`},
	} {
		argv := append(append(qemu[:len(qemu):len(qemu)], filepath.Join(dir, c.program)), c.args...)
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), c.env)
		cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0"}`)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte(c.want)) {
			t.Errorf("%s %s: %v, want %q in\n%s", c.program, strings.Join(c.args, " "), err, c.want, out)
		}
	}
}

// TestObjects has a program for arm64 read the BPF objects that it carries. The kernel has no part in it: under QEMU that is the
// kernel of this machine.
func TestObjects(t *testing.T) {
	qemu := emulator(t)
	const test = "TestObjectsAreForAnyLittleEndianMachine"
	binary := filepath.Join(t.TempDir(), "bpf.test")
	gotool(t, "linux", "test", "-c", "-trimpath", "-o", binary, "./bpf")
	argv := append(qemu[:len(qemu):len(qemu)], binary, "-test.v", "-test.run=^"+test+"$")
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+test)) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestOnMacOS compiles lab for macOS. There is nothing here that runs it.
func TestOnMacOS(t *testing.T) {
	lab := filepath.Join(t.TempDir(), "lab")
	gotool(t, "darwin", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", lab, "./cmd/lab")
	f, err := macho.Open(lab)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Cpu != macho.CpuArm64 || f.Type != macho.TypeExec {
		t.Errorf("lab is a file of %s for %s, want a program for %s", f.Type, f.Cpu, macho.CpuArm64)
	}
}
