package crd

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
)

// DeepCopy is a copy that shares nothing with n.
func (n *LabNode) DeepCopy() *LabNode {
	out := *n
	n.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Addresses = slices.Clone(n.Spec.Addresses)
	out.Spec.PodCIDRs = slices.Clone(n.Spec.PodCIDRs)
	out.Status.Endpoints = slices.Clone(n.Status.Endpoints)
	return &out
}

// DeepCopyObject makes LabNode a [runtime.Object].
func (n *LabNode) DeepCopyObject() runtime.Object { return n.DeepCopy() }

// DeepCopyObject makes LabNodeList a [runtime.Object].
func (l *LabNodeList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = slices.Clone(l.Items)
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopy()
	}
	return &out
}

// DeepCopy is a copy that shares nothing with i.
func (i *LabIdentity) DeepCopy() *LabIdentity {
	out := *i
	i.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Labels = maps.Clone(i.Spec.Labels)
	return &out
}

// DeepCopyObject makes LabIdentity a [runtime.Object].
func (i *LabIdentity) DeepCopyObject() runtime.Object { return i.DeepCopy() }

// DeepCopyObject makes LabIdentityList a [runtime.Object].
func (l *LabIdentityList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = slices.Clone(l.Items)
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopy()
	}
	return &out
}
