package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/defaults"

	"wirelab.dev/wirelab/internal/docker"
)

// How long a registry may take to say its first word, and a download to move on, before the image built on this
// machine is taken instead.
const (
	registryPatience = 6 * time.Second
	stallPatience    = 45 * time.Second
)

// Origin says how a node image came to be at hand.
type Origin string

// The ways a node image is found, in the order they are tried.
const (
	OriginPresent Origin = "present"       // was in the engine
	OriginPulled  Origin = "pulled"        // was pulled just now
	OriginBuilt   Origin = "built locally" // is the one make node-image builds
)

// NodeImage is the image a lab's nodes are made of.
type NodeImage struct {
	Ref    string `json:"image"` // with its digest where it has one
	Origin Origin `json:"origin"`
	// Note says why this is not known to be kind's own image; empty otherwise.
	Note string `json:"note,omitempty"`
}

// Engine is what finding a node image needs of Docker.
type Engine interface {
	HasImage(ctx context.Context, ref string) (bool, error)
	Pull(ctx context.Context, ref string, p docker.Patience, say func(done, total int64)) error
}

// KindNode is what all of kind's node images are called, but for their tag.
const KindNode = "kindest/node:"

// DefaultNodeImage is the node image this version of kind was released with, by digest.
const DefaultNodeImage = defaults.Image

// LocalNodeImage is the tag of the image that make node-image builds: the same Kubernetes version as [DefaultNodeImage].
func LocalNodeImage() string { return builtFor(DefaultNodeImage) }

// builtFor is the tag of the image that make node-image builds in place of one of kind's: the same Kubernetes version.
func builtFor(ref string) string {
	_, tag, _ := strings.Cut(Short(ref), ":")
	return "wirelab/node:" + tag
}

// builtInstead says that the image of the same version that make node-image builds is here, where one of kind's is wanted and it is.
func builtInstead(ctx context.Context, e Engine, want string) string {
	if !strings.HasPrefix(want, KindNode) {
		return ""
	}
	built := builtFor(want)
	if have, err := e.HasImage(ctx, built); err != nil || !have {
		return ""
	}
	return fmt.Sprintf(", and %s, which make node-image has built, is: take that, or go where a registry answers", built)
}

// Short is an image's name without its digest.
func Short(ref string) string {
	s, _, _ := strings.Cut(ref, "@")
	return s
}

// EnsureNodeImage finds a node image and makes sure the engine holds it. want is what the profile asks for and is then
// taken or nothing; empty means kind's own, where it is not here by its digest the one with its tag, and where no registry
// answers the one built locally. say is told what takes time and may be nil.
func EnsureNodeImage(ctx context.Context, e Engine, want string, say func(string)) (NodeImage, error) {
	if say == nil {
		say = func(string) {}
	}
	ref := cmp.Or(want, DefaultNodeImage)
	have, err := e.HasImage(ctx, ref)
	if err != nil {
		return NodeImage{}, err
	}
	if have {
		return NodeImage{Ref: ref, Origin: OriginPresent}, nil
	}
	if want == "" {
		// An archive carries a tag and no digest.
		if have, err = e.HasImage(ctx, Short(ref)); err != nil {
			return NodeImage{}, err
		}
		if have {
			return NodeImage{Ref: Short(ref), Origin: OriginPresent, Note: "known by its tag alone, as from an archive"}, nil
		}
	}
	say("asking the registry for " + Short(ref))
	pullErr := e.Pull(ctx, ref, docker.Patience{First: registryPatience, Stall: stallPatience}, func(done, total int64) {
		say(fmt.Sprintf("pulling %s: %d of %d MB", Short(ref), done>>20, total>>20))
	})
	if pullErr == nil {
		return NodeImage{Ref: ref, Origin: OriginPulled}, nil
	}
	if ctx.Err() != nil {
		return NodeImage{}, ctx.Err()
	}
	if want != "" {
		return NodeImage{}, fmt.Errorf("node image %s of the profile (cluster.image) is not here and cannot be had%s: %w", want, builtInstead(ctx, e, want), pullErr)
	}
	return localNodeImage(ctx, e, pullErr)
}

// Starter says what an image's containers start with.
type Starter interface {
	Entrypoint(ctx context.Context, ref string) ([]string, error)
}

// ErrNoNode means that an image is none that nodes can be made of.
var ErrNoNode = errors.New("this is no node image")

// CheckNode tells whether nodes can be made of an image that is present: all of kind's start an init of their own, which a
// container of another image would miss after half a minute of waiting.
func CheckNode(ctx context.Context, e Starter, ref string) error {
	start, err := e.Entrypoint(ctx, ref)
	if err != nil {
		return err
	}
	return checkStart(ref, start)
}

func checkStart(ref string, start []string) error {
	if len(start) == 0 || start[len(start)-1] != "/sbin/init" {
		return fmt.Errorf("%w: %s starts %q, and a node starts /sbin/init: take one of kind's (kindest/node) or leave cluster.image empty", ErrNoNode, Short(ref), strings.Join(start, " "))
	}
	return nil
}

func localNodeImage(ctx context.Context, e Engine, pullErr error) (NodeImage, error) {
	local := LocalNodeImage()
	have, err := e.HasImage(ctx, local)
	if err != nil {
		return NodeImage{}, err
	}
	if !have {
		return NodeImage{}, fmt.Errorf("no node image: %s cannot be pulled and %s is not built: run make node-image, or go where a registry answers: %w", Short(DefaultNodeImage), local, pullErr)
	}
	return NodeImage{Ref: local, Origin: OriginBuilt, Note: "in place of " + Short(DefaultNodeImage) + ", which no registry gives: " + reason(pullErr)}, nil
}

// reason is the last part of an engine's long sentence about a failed pull.
func reason(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, "dial tcp: "); i >= 0 {
		return s[i+len("dial tcp: "):]
	}
	return strings.TrimPrefix(s, "pull image "+DefaultNodeImage+": ")
}
