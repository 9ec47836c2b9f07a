// Package crdtest has an API server in memory for tests that need nothing of a real one but that it keeps wirelab's
// objects: it takes every object, and knows no versions of one.
package crdtest

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	clienttesting "k8s.io/client-go/testing"

	"wirelab.dev/wirelab/internal/crd"
)

// NewClient returns a client of a server that has these objects, and the requests it gets.
func NewClient(objects ...runtime.Object) (*crd.Client, *clienttesting.Fake) {
	scheme := crd.NewScheme()
	tracker := clienttesting.NewObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder())
	for _, o := range objects {
		if err := tracker.Add(o); err != nil {
			panic(err)
		}
	}
	server := &clienttesting.Fake{}
	server.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	server.AddWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
		w, err := tracker.Watch(action.GetResource(), action.GetNamespace())
		return true, w, err
	})
	gv := crd.GroupVersion
	return &crd.Client{
		Nodes: inMemory[*crd.LabNode, *crd.LabNodeList]{gentype.NewFakeClientWithList(server, "", gv.WithResource(crd.LabNodes), gv.WithKind("LabNode"),
			func() *crd.LabNode { return &crd.LabNode{} }, func() *crd.LabNodeList { return &crd.LabNodeList{} },
			func(dst, src *crd.LabNodeList) { dst.ListMeta = src.ListMeta },
			func(l *crd.LabNodeList) []*crd.LabNode { return gentype.ToPointerSlice(l.Items) },
			func(l *crd.LabNodeList, items []*crd.LabNode) { l.Items = gentype.FromPointerSlice(items) })},
		Identities: inMemory[*crd.LabIdentity, *crd.LabIdentityList]{gentype.NewFakeClientWithList(server, "", gv.WithResource(crd.LabIdentities), gv.WithKind("LabIdentity"),
			func() *crd.LabIdentity { return &crd.LabIdentity{} }, func() *crd.LabIdentityList { return &crd.LabIdentityList{} },
			func(dst, src *crd.LabIdentityList) { dst.ListMeta = src.ListMeta },
			func(l *crd.LabIdentityList) []*crd.LabIdentity { return gentype.ToPointerSlice(l.Items) },
			func(l *crd.LabIdentityList, items []*crd.LabIdentity) { l.Items = gentype.FromPointerSlice(items) })},
	}, server
}

type inMemory[T, L any] struct{ crd.Resource[T, L] }

// IsWatchListSemanticsUnSupported tells informers to list and then watch.
func (inMemory[T, L]) IsWatchListSemanticsUnSupported() bool { return true }
