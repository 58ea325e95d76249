{{/* Names and labels. */}}

{{- define "taoemb.name" -}}
{{- $name := .Values.fullname | default .Release.Name | trunc 24 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "%s can't be the name of a Service: set fullname to letters, digits and dashes that start with a letter" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "taoemb.encoder" -}}{{ include "taoemb.name" . }}-encoder{{- end -}}
{{- define "taoemb.gateway" -}}{{ include "taoemb.name" . }}-gateway{{- end -}}
{{- define "taoemb.gateway.pageKeySecret" -}}
{{- .Values.gateway.pageKeySecret | default (printf "%s-pages" (include "taoemb.gateway" .)) -}}
{{- end -}}
{{- define "taoemb.controller" -}}{{ include "taoemb.name" . }}-rollout-controller{{- end -}}
{{- define "taoemb.jobs" -}}{{ include "taoemb.name" . }}-jobs{{- end -}}
{{- define "taoemb.judge" -}}{{ include "taoemb.name" . }}-judge{{- end -}}
{{- define "taoemb.heldoutJudge" -}}{{ include "taoemb.name" . }}-heldout-judge{{- end -}}
{{- define "taoemb.claim" -}}
{{- .Values.artefacts.pvc.existingClaim | default (printf "%s-artefacts" (include "taoemb.name" .)) -}}
{{- end -}}

{{/* Labels of a component: (list ROOT COMPONENT). */}}
{{- define "taoemb.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: taoemb
{{ include "taoemb.selector" . }}
{{- with $root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The labels that select its pods: (list ROOT COMPONENT). */}}
{{- define "taoemb.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: taoemb
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* metadata of an object: (list ROOT NAME COMPONENT). */}}
{{- define "taoemb.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "taoemb.labels" (list $root (index . 2)) | nindent 2 }}
{{- end -}}

{{/* metadata of an InferenceService: KServe copies its labels to pods, so none of them may change with the chart. */}}
{{- define "taoemb.steadyMetadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  app.kubernetes.io/part-of: taoemb
  {{- include "taoemb.selector" (list $root (index . 2)) | nindent 2 }}
  {{- with $root.Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* An image: (list ROOT KEY). */}}
{{- define "taoemb.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* A path under the artefacts as a storageUri: (list ROOT PATH). */}}
{{- define "taoemb.artefact" -}}
{{- $root := index . 0 -}}
{{- if eq $root.Values.artefacts.type "pvc" -}}
pvc://{{ include "taoemb.claim" $root }}/{{ index . 1 }}
{{- else -}}
{{ trimSuffix "/" (required "artefacts.s3.uri: give s3://BUCKET/PREFIX" $root.Values.artefacts.s3.uri) }}/{{ index . 1 }}
{{- end -}}
{{- end -}}

{{/* Where the encoder's release lies; the running one wins, as a rollout may have promoted it. */}}
{{- define "taoemb.encoder.storageUri" -}}
{{- $first := .Values.encoder.storageUri | default (include "taoemb.artefact" (list . .Values.encoder.release)) -}}
{{- $live := "" -}}
{{- if .Values.encoder.keepLive -}}
{{- $found := lookup "serving.kserve.io/v1beta1" "InferenceService" .Release.Namespace (include "taoemb.encoder" .) -}}
{{- $live = dig "spec" "predictor" "model" "storageUri" "" $found -}}
{{- end -}}
{{- $live | default $first -}}
{{- end -}}

{{- define "taoemb.milvus.uri" -}}
{{- if eq .Values.milvus.mode "operator" -}}
http://{{ include "taoemb.name" . }}-milvus.{{ .Release.Namespace }}.svc.cluster.local:19530
{{- else -}}
{{- required "milvus.uri: give the address of Milvus, or set milvus.mode=operator" .Values.milvus.uri -}}
{{- end -}}
{{- end -}}

{{/* The URL of a judge: (list ROOT KEY); empty when there is none. */}}
{{- define "taoemb.judge.url" -}}
{{- $root := index . 0 -}}{{- $key := index . 1 -}}{{- $judge := index $root.Values $key -}}
{{- if eq $judge.mode "external" -}}
{{- required (printf "%s.url: give the base URL of the external judge" $key) $judge.url -}}
{{- else if ne $judge.mode "none" -}}
http://{{ include (printf "taoemb.%s" $key) $root }}-predictor.{{ $root.Release.Namespace }}.svc.cluster.local/openai/v1
{{- end -}}
{{- end -}}
