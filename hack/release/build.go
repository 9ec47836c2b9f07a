package main

import (
	"context"
	"debug/elf"
	"debug/macho"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"wirelab.dev/wirelab/internal/image"
)

// carried are the programs that lab carries: the folders in cmd/, and what they are called.
var carried = [...]struct{ dir, name string }{
	{"agent", "wirelab-agent"}, {"cni", "wirelab-cni"}, {"nettool", "nettool"}, {"operator", "wirelab-operator"}, {"relay", "wirelab-relay"},
}

// architectures are those of a release, as Go and Debian name them, and systems are what lab runs on.
var (
	architectures = []string{"amd64", "arm64"}
	systems       = []string{"linux", "darwin"}
)

// What ELF and Mach-O call them.
var (
	machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	cpus     = map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}
)

// builder makes a release's files of a commit's files in a folder.
type builder struct {
	source
	edition
	tree  string // the commit's files
	out   string // where the release's files go
	cache string // of Go's compiler; empty for the user's own
	say   func(string)
}

// build makes everything. Of two builds of a commit all files are equal, byte by byte, as long as Go and the Debian packages of
// the demo's tools are the same.
func (b *builder) build(ctx context.Context) error {
	for _, arch := range architectures {
		if err := b.platform(ctx, arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	chart, err := packChart(os.DirFS(b.tree), "charts/wirelab", b.edition, b.at)
	if err != nil {
		return err
	}
	if err := b.write("wirelab-"+b.chart()+".tgz", chart); err != nil {
		return err
	}
	if err := b.write("RELEASE_NOTES.md", []byte("# wirelab "+b.version+"\n\n"+b.notes)); err != nil {
		return err
	}
	sums, err := checksums(b.out)
	if err != nil {
		return err
	}
	return b.write(sumsFile, sums)
}

// platform makes the images for an architecture, and lab and its SBOM for each system. What lab carries is of the same
// architecture, and for Linux, as nodes are.
func (b *builder) platform(ctx context.Context, arch string) error {
	programs := filepath.Join(b.tree, "bin", arch)
	b.say("programs for " + arch)
	args := []string{"build", "-o", programs + "/"}
	for _, c := range carried {
		args = append(args, "./cmd/"+c.dir)
	}
	if err := b.compile(ctx, "linux", arch, args...); err != nil {
		return err
	}
	var binaries []string
	for _, c := range carried {
		binary := filepath.Join(programs, c.dir)
		if err := checkProgram(binary, arch); err != nil {
			return err
		}
		if err := b.run(ctx, nil, "go", "run", "./images/pack", binary, b.payload(c.name+".zst")); err != nil {
			return err
		}
		binaries = append(binaries, binary)
	}
	b.say("the demo's tools for " + arch)
	tools := filepath.Join(programs, "demo-tools.tar")
	if err := b.run(ctx, nil, "images/demo/build.sh", "--arch", arch, tools); err != nil {
		return err
	}
	if err := b.run(ctx, nil, "go", "run", "./images/pack", tools, b.payload("demo-tools.tar.zst")); err != nil {
		return err
	}
	b.say("images for " + arch)
	if err := b.images(arch); err != nil {
		return err
	}
	for _, system := range systems {
		b.say("lab for " + system + ", " + arch)
		lab := filepath.Join(b.out, b.name("lab", system, arch))
		if err := b.compile(ctx, system, arch, "build", "-o", lab, "./cmd/lab"); err != nil {
			return err
		}
		check := checkProgram
		if system == "darwin" {
			check = checkOnMac
		}
		if err := check(lab, arch); err != nil {
			return err
		}
		b.say("its SBOM")
		if err := b.sbom(ctx, system, arch, tools, append([]string{lab}, binaries...)); err != nil {
			return err
		}
	}
	return nil
}

// payload is where in the tree lab's build finds what it carries.
func (b *builder) payload(name string) string {
	return filepath.Join(b.tree, "images", "payload", name)
}

// name is what a file of the release for a system and an architecture is called.
func (b *builder) name(what, system, arch string) string {
	return strings.Join([]string{what, b.version, system, arch}, "_")
}

func (b *builder) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(b.out, name), content, 0o644) //nolint:gosec // it is to be handed around
}

// compile runs go build as a release does it: static, without the paths of this machine and what git says of them.
func (b *builder) compile(ctx context.Context, system, arch string, args ...string) error {
	const version = "wirelab.dev/wirelab/internal/version."
	flags := []string{"-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X " + version + "Version=" + b.version + " -X " + version + "Commit=" + b.commit}
	env := []string{"GOOS=" + system, "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0"}
	return b.run(ctx, env, "go", append([]string{args[0]}, append(flags, args[1:]...)...)...)
}

// run runs a program in the tree, with nothing of the user's that changes what Go builds.
func (b *builder) run(ctx context.Context, env []string, program string, args ...string) error {
	_, err := output(b.command(ctx, env, program, args...))
	return err
}

func (b *builder) command(ctx context.Context, env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.tree
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.at.Unix()))
	if b.cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+b.cache)
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// checkProgram holds that a program is for linux on an architecture, and static: nothing loads it but the kernel.
func checkProgram(file, arch string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	if f.Machine != machines[arch] {
		return fmt.Errorf("%s is for %s, want %s", file, f.Machine, machines[arch])
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static", file)
		}
	}
	return nil
}

// checkOnMac holds that a program is for macOS on an architecture.
func checkOnMac(file, arch string) error {
	f, err := macho.Open(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	if f.Cpu != cpus[arch] || f.Type != macho.TypeExec {
		return fmt.Errorf("%s is a file of %s for %s, want a program for %s", file, f.Type, f.Cpu, cpus[arch])
	}
	return nil
}

// images writes the images that lab installs, an archive each. Their tags are the release's version, which the chart asks for,
// and the one by which lab knows them.
func (b *builder) images(arch string) error {
	for _, make := range []func(fs.FS, string) (*image.Image, error){image.Agent, image.Operator, image.Relay, image.Nettool} {
		img, err := make(os.DirFS(filepath.Join(b.tree, "images")), arch)
		if err != nil {
			return err
		}
		archive, err := img.Portable(b.version)
		if err != nil {
			return err
		}
		if err := b.write(b.name(strings.ReplaceAll(img.Repository, "/", "-"), "linux", arch)+".tar", archive); err != nil {
			return err
		}
	}
	return nil
}

// sbom writes what lab, the first of binaries, and the programs that it carries are made of. tools is the file with the demo's tools.
func (b *builder) sbom(ctx context.Context, system, arch, tools string, binaries []string) error {
	var documents [][]byte
	for _, binary := range binaries {
		document, err := output(b.command(ctx, nil, "go", "tool", "-modfile=hack/tools/go.mod", "cyclonedx-gomod", "bin", "-json", "-std",
			"-noserial", "-notimestamp", "-version", b.version, binary))
		if err != nil {
			return err
		}
		documents = append(documents, []byte(document))
	}
	layer, err := os.Open(tools)
	if err != nil {
		return err
	}
	defer layer.Close()
	distribution, err := distributionID()
	if err != nil {
		return err
	}
	packages, err := debianPackages(layer, distribution, arch)
	if err != nil {
		return err
	}
	document, err := mergeBOMs(documents, packages, b.at)
	if err != nil {
		return err
	}
	return b.write(b.name("wirelab", system, arch)+".cdx.json", document)
}

// distributionID is the ID of the distribution, such as debian, whose packages the demo's tools are of.
func distributionID() (string, error) {
	about, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("find the distribution: %w", err)
	}
	for line := range strings.Lines(string(about)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "ID="); ok {
			return strings.Trim(id, `"`), nil
		}
	}
	return "", errors.New("find the distribution: /etc/os-release has no ID")
}
