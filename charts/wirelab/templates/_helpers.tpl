{{/* Every object of the chart has this name; one agent per node leaves no room for a second release. */}}
{{- define "wirelab.agent" -}}wirelab-agent{{- end -}}

{{- define "wirelab.operator" -}}wirelab-operator{{- end -}}

{{- define "wirelab.relay" -}}wirelab-relay{{- end -}}

{{- define "wirelab.selector" -}}
app.kubernetes.io/name: {{ include "wirelab.agent" . }}
{{- end -}}

{{- define "wirelab.labels" -}}
{{ include "wirelab.selector" . }}
{{ include "wirelab.commonLabels" . }}
{{- end -}}

{{- define "wirelab.operatorLabels" -}}
app.kubernetes.io/name: {{ include "wirelab.operator" . }}
{{ include "wirelab.commonLabels" . }}
{{- end -}}

{{- define "wirelab.relayLabels" -}}
app.kubernetes.io/name: {{ include "wirelab.relay" . }}
{{ include "wirelab.commonLabels" . }}
{{- end -}}

{{- define "wirelab.commonLabels" -}}
app.kubernetes.io/part-of: wirelab
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* CEL: whether a request is an agent's. */}}
{{- define "wirelab.isAgent" -}}
request.userInfo.username == "system:serviceaccount:{{ .Release.Namespace }}:{{ include "wirelab.agent" . }}"
{{- end -}}

{{/* CEL: the node of the agent's pod, by the pod's token; other tokens of its account have none. */}}
{{- define "wirelab.tokensNodes" -}}
has(request.userInfo.extra) && "authentication.kubernetes.io/node-name" in request.userInfo.extra ?
request.userInfo.extra["authentication.kubernetes.io/node-name"] : []
{{- end -}}

{{- define "wirelab.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* What stands at the dotted .key of .values, as text, a list as [a b]; nothing where it is off: false, empty or a word
     for it. */}}
{{- define "wirelab.setting" -}}
{{- $here := .values -}}
{{- range splitList "." .key -}}{{- $here = get $here . -}}{{- end -}}
{{- if not (has ($here | toString) .off) -}}{{- $here -}}{{- end -}}
{{- end -}}

{{/* Settings that contradict each other; each value by itself is the schema's to check. What holds for the network's
     settings is in settings.json, which is made from what the agent itself checks. */}}
{{- define "wirelab.validate" -}}
{{- $network := .Files.Get "settings.json" | fromJson -}}
{{- $own := list "image" "image.repository" "image.tag" "image.pullPolicy" "cluster" "cluster.name" "k8sServiceHost" "k8sServicePort"
  "operator" "operator.image" "operator.image.repository" "operator.image.tag" "operator.replicas" "relay" "relay.image" "relay.image.repository" "relay.image.tag" "prometheus" "prometheus.enabled" "prometheus.port"
  "serviceMonitor" "serviceMonitor.enabled" "serviceMonitor.labels" "dashboard" "dashboard.enabled" "clusterHealth" "clusterHealth.enabled" "clusterHealth.port" -}}
{{- range $path := concat $own $network.keys -}}
{{- $here := $.Values -}}
{{- range $name := splitList "." $path -}}
{{- if or (not (hasKey $here $name)) (kindIs "invalid" (get $here $name)) -}}
{{- fail (printf "%s has no value: null takes the chart's own away; give one, or leave the key out" $path) -}}
{{- end -}}
{{- $here = get $here $name -}}
{{- end -}}
{{- end -}}
{{- range $key, $words := $network.former -}}
{{- if hasKey $.Values $key -}}
{{- $value := get $.Values $key | toString -}}
{{- fail (printf "%s: is an older word: %s %s is %s today; write that" $key $key $value (get $words $value)) -}}
{{- end -}}
{{- end -}}
{{- range $key, $words := $network.refused -}}
{{- range $value := include "wirelab.setting" (dict "values" $.Values "key" $key "off" $network.off) | trimAll "[]" | splitList " " -}}
{{- if hasKey $words $value -}}
{{- fail (printf "%s: %q %s" $key $value (get $words $value)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $rule := $network.needs -}}
{{- $set := include "wirelab.setting" (dict "values" $.Values "key" $rule.key "off" $network.off) -}}
{{- $needs := include "wirelab.setting" (dict "values" $.Values "key" $rule.needs "off" $network.off) -}}
{{- if and $set (eq $needs ($rule.not | default "")) -}}
{{- fail $rule.message -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.ipam.mode "cluster-pool") (not .Values.ipam.operator.clusterPoolIPv4PodCIDRList) -}}
{{- fail "ipam.mode cluster-pool needs ipam.operator.clusterPoolIPv4PodCIDRList: name the CIDRs that podCIDRs come from, such as 10.0.0.0/12" -}}
{{- end -}}
{{- range $i, $cidr := .Values.ipam.operator.clusterPoolIPv4PodCIDRList -}}
{{- $mask := $.Values.ipam.operator.clusterPoolIPv4MaskSize | int -}}
{{- if gt (splitList "/" $cidr | last | int) $mask -}}
{{- fail (printf "ipam.operator.clusterPoolIPv4PodCIDRList[%d]: %s has no room for a node, each of which gets a /%d (ipam.operator.clusterPoolIPv4MaskSize); widen it, or raise that number" $i $cidr $mask) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.routingMode "tunnel" -}}
{{- range $taken := $network.taken -}}
{{- $port := $.Values.tunnelPort | int -}}
{{- if and (ge $port ($taken.from | int)) (le $port ($taken.to | int)) -}}
{{- fail (printf "tunnelPort: %d is %s; leave it out, or choose another" $port $taken.whose) -}}
{{- end -}}
{{- end -}}
{{- $least := add ($network.leastMTU | int) ($network.tunnelOverhead | int) | int -}}
{{- $mtu := .Values.MTU | int -}}
{{- if and $mtu (lt $mtu $least) -}}
{{- fail (printf "MTU %d leaves pods less than %d bytes of packet, as the tunnel (routingMode tunnel) takes %d; raise it to %d at least" $mtu ($network.leastMTU | int) ($network.tunnelOverhead | int) $least) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.prometheus.enabled .Values.clusterHealth.enabled (eq (.Values.prometheus.port | int) (.Values.clusterHealth.port | int)) -}}
{{- fail (printf "prometheus.port and clusterHealth.port are both %d: agents listen at both on the node's address; change one" (.Values.prometheus.port | int)) -}}
{{- end -}}
{{- if .Values.flows.relay.enabled -}}
{{- $port := .Values.flows.relay.agentPort | int -}}
{{- range $key, $other := dict "prometheus.port" .Values.prometheus "clusterHealth.port" .Values.clusterHealth -}}
{{- if and $other.enabled (eq ($other.port | int) $port) -}}
{{- fail (printf "flows.relay.agentPort and %s are both %d: agents listen at both on the node's address; change one" $key $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (include "wirelab.setting" (dict "values" .Values "key" "kubeProxyReplacement" "off" $network.off)) (not .Values.k8sServiceHost) -}}
{{- fail "kubeProxyReplacement needs k8sServiceHost: without kube-proxy the agents cannot reach the API server by its Service before they have made it work; set it to the API server's address" -}}
{{- end -}}
{{- if and .Values.k8sServicePort (not .Values.k8sServiceHost) -}}
{{- fail "k8sServicePort needs k8sServiceHost: set the address of the API server, too" -}}
{{- end -}}
{{- if and .Values.flows.metrics (not .Values.prometheus.enabled) -}}
{{- fail "flows.metrics needs prometheus.enabled: without it agents serve no metrics; set prometheus.enabled to true, or flows.metrics to []" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.prometheus.enabled) -}}
{{- fail "serviceMonitor.enabled needs prometheus.enabled: without it agents serve no metrics; set prometheus.enabled to true, or serviceMonitor.enabled to false" -}}
{{- end -}}
{{- if and .Values.debug.verbose (not .Values.debug.enabled) -}}
{{- fail "debug.verbose needs debug.enabled: without it nothing of it is logged" -}}
{{- end -}}
{{- end -}}

{{/* The agent's configuration file: the values as they are, but for those that are the chart's own. The agent refuses keys
     it does not know. */}}
{{- define "wirelab.config" -}}
clusterName: {{ .Values.cluster.name | quote }}
daemonSet: {{ printf "%s/%s" .Release.Namespace (include "wirelab.agent" .) }}
{{ omit .Values "global" "image" "operator" "relay" "cluster" "k8sServiceHost" "k8sServicePort" "serviceMonitor" "dashboard" | toYaml }}
paths:
  hostRoot: /host
  proc: /host-proc-sys
{{- end -}}

{{/* Two Secrets, .first and .second, by which two programs know each other, each with a name, a name in its certificate and
     other names of it, may be empty. Those that are there stay; where one is gone, or they are not of one CA, both are made anew. The CA's key is kept
     nowhere: nobody can make a third one. */}}
{{- define "wirelab.certificates" -}}
{{- $there := dict -}}
{{- range list .first .second -}}
{{- $_ := set $there .secret (lookup "v1" "Secret" $.root.Release.Namespace .secret) -}}
{{- end -}}
{{- $ca := dig "data" "ca.crt" "" (get $there .first.secret) -}}
{{- $keep := and $ca (eq $ca (dig "data" "ca.crt" "" (get $there .second.secret))) -}}
{{- $new := genCAWithKey "wirelab" 3650 (genPrivateKey "ecdsa") -}}
{{- range list .first .second -}}
{{- $data := get (get $there .secret) "data" -}}
{{- if not $keep -}}
{{- $cert := genSignedCertWithKey .name .addresses (append .others .name) 3650 $new (genPrivateKey "ecdsa") -}}
{{- $data = dict "ca.crt" (b64enc $new.Cert) "tls.crt" (b64enc $cert.Cert) "tls.key" (b64enc $cert.Key) -}}
{{- end }}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata:
  name: {{ .secret }}
  namespace: {{ $.root.Release.Namespace }}
  labels:
    {{- include "wirelab.relayLabels" $.root | nindent 4 }}
data:
  {{- range $key := list "ca.crt" "tls.crt" "tls.key" }}
  {{ $key }}: {{ get $data $key }}
  {{- end }}
{{- end }}
{{- end -}}
