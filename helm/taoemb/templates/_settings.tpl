{{/* The settings file of each component, as `taoemb --config` takes it. */}}

{{/* COMPUTED with what the values say over it: (list ROOT COMPUTED SECTION…). */}}
{{- define "taoemb.settings.over" -}}
{{- $root := index . 0 -}}
{{- $said := dict -}}
{{- range $section := slice . 2 -}}
{{- if hasKey $root.Values.settings $section -}}
{{- $_ := set $said $section (deepCopy (index $root.Values.settings $section)) -}}
{{- end -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite (index . 1) $said) -}}
{{- end -}}

{{- define "taoemb.settings.encoder" -}}
{{- include "taoemb.settings.over" (list . (dict "encoder_server" (dict "linger_s" 5)) "encoder_server" "logs") -}}
{{- end -}}

{{- define "taoemb.settings.judge" -}}
{{- include "taoemb.settings.over" (list . (dict "judge_server" (dict)) "judge_server" "logs") -}}
{{- end -}}

{{- define "taoemb.settings.milvus" -}}
{{- $milvus := dict "uri" (include "taoemb.milvus.uri" .) -}}
{{- if .Values.milvus.tokenSecret -}}{{- $_ := set $milvus "token_file" "/etc/taoemb/milvus/token" -}}{{- end -}}
{{- toYaml $milvus -}}
{{- end -}}

{{- define "taoemb.settings.gateway" -}}
{{- $gateway := dict "traffic" (printf "kserve://%s/%s" .Release.Namespace (include "taoemb.encoder" .)) "workers" (int .Values.gateway.workers) "page_key_file" "/etc/taoemb/pages/key" -}}
{{- if .Values.gateway.testerTokenSecret -}}{{- $_ := set $gateway "tester_token_file" "/etc/taoemb/tester/token" -}}{{- end -}}
{{- if .Values.gateway.operatorTokenSecret -}}{{- $_ := set $gateway "operator_token_file" "/etc/taoemb/operator/token" -}}{{- end -}}
{{- $events := dict "url_file" "/etc/taoemb/events/url" "spool" "/var/lib/taoemb/spool" -}}
{{- $milvus := include "taoemb.settings.milvus" . | fromYaml -}}
{{- include "taoemb.settings.over" (list . (dict "gateway" $gateway "events" $events "milvus" $milvus) "gateway" "events" "milvus" "kserve" "logs") -}}
{{- end -}}

{{- define "taoemb.settings.controller" -}}
{{- $computed := dict "controller" (dict "host" "0.0.0.0" "port" 8085 "lease" (include "taoemb.controller" .)) -}}
{{- $_ := set $computed "events" (dict "url_file" "/etc/taoemb/events/url" "spool" "/var/lib/taoemb/spool") -}}
{{- $_ := set $computed "milvus" (include "taoemb.settings.milvus" . | fromYaml) -}}
{{- $judge := include "taoemb.settings.askJudge" (list . "heldoutJudge") -}}
{{- if $judge -}}
{{- $_ := set $computed "heldout_judge" (mustMergeOverwrite ($judge | fromYaml) (dict "cache" "/var/lib/taoemb/judgments.db")) -}}
{{- end -}}
{{- include "taoemb.settings.over" (list . $computed "controller" "events" "milvus" "kserve" "heldout_judge" "logs") -}}
{{- end -}}

{{/* What training jobs and pipelines take: judges and Milvus. */}}
{{- define "taoemb.settings.training" -}}
{{- $computed := dict "milvus" (include "taoemb.settings.milvus" . | fromYaml) -}}
{{- if gt (int .Values.training.metricsPort) 0 -}}
{{- $_ := set $computed "engine" (dict "trackers" (list "tensorboard" "prometheus") "metrics_host" "0.0.0.0" "metrics_port" (int .Values.training.metricsPort)) -}}
{{- end -}}
{{- $judge := include "taoemb.settings.askJudge" (list . "judge") -}}
{{- if $judge -}}{{- $_ := set $computed "judge" ($judge | fromYaml) -}}{{- end -}}
{{- $heldout := include "taoemb.settings.askJudge" (list . "heldoutJudge") -}}
{{- if $heldout -}}{{- $_ := set $computed "heldout_judge" ($heldout | fromYaml) -}}{{- end -}}
{{- include "taoemb.settings.over" (list . $computed "milvus" "judge" "heldout_judge") -}}
{{- end -}}

{{/* How a judge is asked: (list ROOT KEY); empty when there is none. */}}
{{- define "taoemb.settings.askJudge" -}}
{{- $url := include "taoemb.judge.url" . -}}
{{- if $url -}}
{{- $judge := index (index . 0).Values (index . 1) -}}
{{- $said := dict "url" $url "model" $judge.model -}}
{{- $weights := $judge.release -}}
{{- if and (not $weights) (eq $judge.mode "vllm") -}}{{- $weights = trimPrefix "hf://" $judge.storageUri -}}{{- end -}}
{{- if $weights -}}{{- $_ := set $said "release" $weights -}}{{- end -}}
{{- if and (eq $judge.mode "external") $judge.apiKeySecret -}}
{{- $_ := set $said "api_key_file" (printf "/etc/taoemb/%s/token" (lower (index . 1))) -}}
{{- end -}}
{{- toYaml $said -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap of a component's settings: (list ROOT NAME COMPONENT). */}}
{{- define "taoemb.settings.configMap" -}}
{{- $root := index . 0 -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "taoemb.metadata" (list $root (printf "%s-settings" (index . 1)) (index . 2)) | nindent 2 }}
data:
  settings.yaml: |
    {{- include (printf "taoemb.settings.%s" (index . 2)) $root | nindent 4 }}
{{- end -}}

{{/* Volumes with what the settings name: the events database, Milvus' token. */}}
{{- define "taoemb.settings.volumes" -}}
{{ include "taoemb.secretVolume" (list "events" .Values.events.existingSecret .Values.events.key "url") }}
{{- if .Values.milvus.tokenSecret }}
{{ include "taoemb.secretVolume" (list "milvus" .Values.milvus.tokenSecret .Values.milvus.tokenSecretKey "token") }}
{{- end }}
{{- end -}}

{{- define "taoemb.settings.mounts" -}}
{{ include "taoemb.mount" "settings" }}
{{ include "taoemb.mount" "events" }}
{{- if .Values.milvus.tokenSecret }}
{{ include "taoemb.mount" "milvus" }}
{{- end }}
{{- end -}}
